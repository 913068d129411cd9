//! The node's own settings: their form, and who may write them.

use sectile::config::Settings;
use sectile::config::diagnostic;
use sectile::config::schema::parse_settings;

#[test]
fn all_that_they_may_say_is_read() {
    let text = r#"
[node]
name = "edge-7"
labels = { pool = "edge", "nvidia.com/gpu.product" = "A100" }
[tree]
path = "/srv/tree"
owners = ["sectile-tree", "1000"]
[host]
commands = ["/usr/bin/virsh"]
units = ["embedder*.service", "nvidia-dcgm.service", "one@?.service"]
[service]
state = "/srv/state"
resync = "5m"
"#;
    let (settings, found) = parse_settings("s.toml", text);
    assert!(found.is_empty(), "{found:?}");
    insta::assert_debug_snapshot!(settings);
    assert_eq!(parse_settings("s.toml", ""), (Settings::default(), vec![]));
}

#[test]
fn every_slip_is_shown_with_its_place_and_a_way_out() {
    let text = r#"
labels = {}
[nod]
[node]
nameof = "a b"
name = "a b"
[tree]
path = "srv"
owners = ["git sync"]
zygote = 1
[host]
comands = []
commands = ["virsh", "/usr/bin/virsh"]
units = ["embed der.service"]
[service]
resync = "1s"
state = 7
"#;
    let (settings, found) = parse_settings("/etc/sectile/sectile.toml", text);
    assert_eq!(settings.commands, ["/usr/bin/virsh"]);
    let sources = [("/etc/sectile/sectile.toml".to_owned(), text.to_owned())].into();
    insta::assert_snapshot!(diagnostic::render(&found, &sources, false));
}
