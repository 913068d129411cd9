//! A driver that fails, is late, or is gone.

use super::client::*;

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "a100-80gb"
  mig = true
[[fault.call]]
name = "create_gi"
nth = 2
fails = "GPU_IS_LOST"
[[fault.call]]
name = "destroy_gi"
loses = "UNKNOWN"
[[fault.call]]
name = "device_count"
nth = 3
hangs = "before"
"#;

#[test]
fn the_faults_of_the_fleet_strike_the_calls_of_other_programs() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let gi = client.create(gpu, 19).unwrap();
    assert_eq!(client.create(gpu, 19), Err(15));
    assert!(client.create(gpu, 19).is_ok());
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[gi]), 999);
    assert_eq!(client.call("nvmlGpuInstanceDestroy", &[gi]), INVALID_ARGUMENT, "it was destroyed all the same");
    let count = || client.get::<u32>("nvmlDeviceGetCount_v2", &[]);
    assert_eq!((count(), count(), count(), count()), (Ok(1), Ok(1), Err(TIMEOUT), Ok(1)));
}

#[test]
fn a_state_that_is_taken_away_is_a_driver_that_is_gone_until_it_is_back() {
    let client = Client::new(FLEET);
    let gpu = client.gpu(0);
    let (kept, state) = (client.world(), client.state());
    let away = state.with_extension("away");
    std::fs::rename(&state, &away).unwrap();
    assert_eq!(client.get::<u32>("nvmlDeviceGetMinorNumber", &[gpu]), Err(DRIVER_NOT_LOADED));
    assert_eq!(client.create(gpu, 19), Err(DRIVER_NOT_LOADED));
    std::fs::write(&state, "{").unwrap();
    assert_eq!(client.create(gpu, 19), Err(999));
    std::fs::rename(&away, &state).unwrap();
    assert_eq!(client.get::<u32>("nvmlDeviceGetMinorNumber", &[gpu]), Ok(0));
    assert_eq!(client.world(), kept);
}
