//! A guard before the parser: keys of too many parts.

use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::read::Span;

/// Where a line has more dots outside of strings than any key of a fleet file has parts. `toml` nests a table for each
/// part, within eighty inline tables at most, and drops them recursively: a small file could end the stack.
pub(super) fn too_deep(text: &str) -> Option<Span> {
    const MOST: usize = 16;
    let mut dots = 0;
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Newline => dots = 0,
            TokenKind::Dot if dots == MOST => return Some(token.span().start()..token.span().end()),
            TokenKind::Dot => dots += 1,
            _ => {}
        }
    }
    None
}
