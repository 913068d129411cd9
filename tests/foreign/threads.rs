//! The fuzz target's calls on random bytes, so that every machine makes them; tests/fuzz goes on where this ends.

use proptest::prelude::*;

use super::client::Client;

#[path = "../fuzz/library.rs"]
mod library;

const FLEET: &str = r#"
[[node]]
name = "n1"
  [[node.gpu]]
  model = "h100-80gb-sxm"
  mig = true
  [[node.gpu]]
  model = "a30-24gb"
  instances = [{ profile = "1g.6gb", start = 0, users = ["process:4711/train"] }]
"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_from_several_threads_leave_a_sound_world(bytes in prop::collection::vec(any::<u8>(), 1..900)) {
        let client = Client::new(FLEET);
        library::run(&|name, args| client.call(name, args), &bytes);
        library::sound(&client.world());
    }
}

#[test]
#[should_panic(expected = "no legal placement")]
fn an_unsound_world_is_noticed() {
    let client = Client::new(FLEET);
    let mut world = client.world();
    world.nodes.get_mut("n1").unwrap().gpus[1].instances[0].placement.start = 9;
    library::sound(&world);
}
