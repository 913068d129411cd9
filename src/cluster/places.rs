//! The ConfigMap in which the places stand: a key for each holder, its place in JSON.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::model::observed::Known;
use crate::model::{Place, Places};

/// What the object says. Nobody but its holder may change what can't be read: it counts as held.
pub(super) fn read(object: &ConfigMap) -> Places {
    let places = object.data.iter().flatten();
    let read = |text: &str| serde_json::from_str(text).map_or(Known::Unknown, Known::Known);
    places.map(|(holder, text)| (holder.clone(), read(text))).collect()
}

/// The patch that sets a holder's place, or (`None`) takes it out.
pub(super) fn patch(version: &str, holder: &str, place: Option<&Place>) -> Value {
    // It has strings, numbers and maps by strings alone.
    let text = place.map(|place| serde_json::to_string(place).unwrap_or_default());
    json!({ "metadata": { "resourceVersion": version }, "data": { holder: text } })
}
