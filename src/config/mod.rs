//! The tree: [`mod@load`] reads it, [`schema`] checks its form, [`mod@resolve`] settles what it wants of each node.
//!
//! Everything here but the loader is pure. All errors come at once, each with file, line, caret and a way out.

pub mod alone;
pub mod assemble;
pub mod diagnostic;
pub mod facts;
pub mod load;
pub mod precedence;
pub mod resolve;
pub mod schema;
pub mod write;

pub use assemble::assemble;
pub use diagnostic::{Code, Diagnostic, Severity};
pub use facts::{GpuFacts, NodeFacts};
pub use load::{Loaded, load};
pub use resolve::{Resolved, resolve};
pub use schema::{Settings, Tree};
