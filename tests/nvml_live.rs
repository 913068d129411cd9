//! What the GPUs of this machine offer, against the catalogue. It only reads, and needs NVIDIA's driver and at least one
//! GPU: `cargo test --test nvml_live -- --ignored --nocapture`.

use sectile::model::catalogue;
use sectile::nvml::Library;
use sectile::ports::{Driver, FIELD_MODE_INDEPENDENT_QUERY, FIELD_RESETLESS_MIG, NvmlCode};

#[test]
#[ignore = "needs a GPU of NVIDIA's"]
fn the_catalogue_is_what_the_driver_says() {
    let driver = Library::open(None).unwrap();
    println!("driver {}", driver.driver_version().unwrap());
    let mut differences = Vec::new();
    for index in 0..driver.device_count().unwrap() {
        let gpu = driver.device_by_index(index).unwrap();
        let name = driver.name(gpu).unwrap();
        println!(
            "\nGPU {index} {name}: MIG {:?}, resetless {:?}, asked with MIG off {:?}, {:?} bytes",
            driver.mig_mode(gpu),
            driver.field_value(gpu, FIELD_RESETLESS_MIG),
            driver.field_value(gpu, FIELD_MODE_INDEPENDENT_QUERY),
            driver.memory_total(gpu),
        );
        let board = catalogue::by_name(&name);
        if board.is_none() {
            differences.push(format!("{name}: the catalogue has no such board"));
        }
        for at in 0..64 {
            let info = match driver.gi_profile(gpu, at) {
                Ok(info) => info,
                Err(NvmlCode::InvalidArgument) => break,
                Err(code) => {
                    println!("  profile {at:>2}: {code}");
                    continue;
                }
            };
            let places = driver.gi_possible_placements(gpu, info.id);
            println!("  profile {at:>2}: {info:?}\n              places {places:?}");
            let Some(known) = board.and_then(|board| board.profiles.iter().find(|p| p.index == at)) else {
                differences.push(format!("{name}: the catalogue has no profile {at} ({})", info.name));
                continue;
            };
            let mut compare = |what: &str, says: String, has: Option<String>| {
                if has.as_ref() != Some(&says) {
                    differences
                        .push(format!("{name} {}: {what}: the driver says {says}, the catalogue {has:?}", known.name));
                }
            };
            compare("name", info.name.trim_start_matches("MIG ").to_owned(), Some(known.name.to_owned()));
            compare("id", info.id.to_string(), known.id.value.map(|id| id.to_string()));
            compare("slices", info.slice_count.to_string(), Some(known.slices.to_string()));
            compare("most", info.instance_count.to_string(), Some(known.max_instances.to_string()));
            compare("MiB", info.memory_size_mib.to_string(), known.memory_mib.value.map(|mib| mib.to_string()));
            let processors = known.multiprocessors.value.map(|count| count.to_string());
            compare("multiprocessors", info.multiprocessor_count.to_string(), processors);
            if let Ok(places) = places {
                let mut starts: Vec<u32> = places.iter().map(|place| place.start).collect();
                starts.sort_unstable();
                compare("places", format!("{starts:?}"), known.starts.map(|starts| format!("{starts:?}")));
                let size = places.first().map(|place| place.size);
                compare("size", format!("{size:?}"), Some(format!("{:?}", known.size)));
            }
        }
    }
    println!("\n{} differences\n{}", differences.len(), differences.join("\n"));
}
