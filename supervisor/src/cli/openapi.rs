//! `jatis openapi`: prints the document that the API gives of itself.

use std::io::{self, Write};

use crate::http::openapi;

/// Prints the document.
///
/// # Errors
/// When the output cannot be written.
pub fn print(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&openapi::text())?;
    out.flush()
}
