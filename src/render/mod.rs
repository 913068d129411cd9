//! Plans, status and differences as people and programs read them. Pure: data in, text out.
//!
//! Colours are always written and never needed to understand; whoever prints strips them where nobody sees colours.

pub mod difference;
pub mod drawing;
pub mod fit;
pub mod fleet;
mod gpu;
pub mod json;
mod paint;
pub mod profiles;
pub mod saved;
pub mod status;
pub mod step;
pub mod tale;
pub mod text;
pub mod view;
mod words;

pub use step::{Names, step};

/// How much is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whole UUIDs, the entries that won, GPUs that stay as they are, and every step with its guards.
    pub wide: bool,
}
