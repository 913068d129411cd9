//! Closed lists: enums whose words in JSON, labels and metrics the manual lists.

macro_rules! closed_list {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),* }
        impl $name {
            /// The closed list, in the order of the manual.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The word in JSON, labels and metrics.
            pub fn word(self) -> &'static str { match self { $($name::$variant => $word),* } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.pad(self.word()) }
        }
    };
}

pub(crate) use closed_list;
