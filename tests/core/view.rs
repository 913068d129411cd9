//! What a node publishes of itself.

use jiff::Timestamp;
use sectile::render::view;

use super::defects::{layout, node, run};

#[test]
fn a_view_is_read_as_it_was_seen() {
    let run = run(&node("n", &["0:1g.10gb 4:3g.40gb", "off"]), &[layout("n", &["7g.80gb"])], "");
    let (_, observed, _) = run.plan();
    let seen = &observed.nodes["n"];
    let at = Timestamp::from_second(1_700_000_000).unwrap();
    let text = view::write(seen, at);
    let read = view::read(&text).unwrap();
    assert_eq!((&read.node, read.at), (seen, at));
    // What the catalogue knows of the boards is not told again.
    assert!(!text.contains("\"starts\""), "{text}");
    // What no board of the catalogue is like is told.
    let mut other = seen.clone();
    std::sync::Arc::make_mut(other.gpus[0].geometry.as_mut().unwrap()).units = 9;
    assert_eq!(view::read(&view::write(&other, at)).unwrap().node, other);
}

#[test]
fn a_full_node_fits_an_annotation() {
    let full = ["0:1g.10gb 1:1g.10gb 2:1g.10gb 3:1g.10gb 4:1g.10gb 5:1g.10gb 6:1g.10gb"; 8];
    let run = run(&node("n", &full), &[layout("n", &["7g.80gb"])], "");
    let text = view::write(&run.plan().1.nodes["n"], Timestamp::UNIX_EPOCH);
    // All annotations of an object together may have 256 KiB (apimachinery, TotalAnnotationSizeLimitB).
    assert!(text.len() < 32 * 1024, "{} bytes", text.len());
}

#[test]
fn what_is_no_view_is_told() {
    assert_eq!(view::read("{\"format_version\":2}").unwrap_err(), "a newer sectile wrote it (version 2)");
    for text in ["", "[]", "{}", "{\"format_version\":1}"] {
        assert!(view::read(text).unwrap_err().starts_with("it can't be read"), "{text}");
    }
}
