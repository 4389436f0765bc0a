//! Reads the tables of `docs/reference.md`, for the tests that compare it with the code. Included
//! by the tests of each program; part of none.

const PAGE: &str = include_str!("reference.md");

/// The cells of the tables in a section, one row after another; backticks are removed.
///
/// # Panics
/// When there is no such section.
pub(crate) fn rows(section: &str) -> Vec<Vec<String>> {
    let heading = format!("\n## {section}\n");
    let (_, rest) = PAGE
        .split_once(&heading)
        .expect("the section is in docs/reference.md");
    let body = rest.split_once("\n## ").map_or(rest, |(body, _)| body);
    let mut rows = Vec::new();
    let mut lines = body.lines().peekable();
    while let Some(line) = lines.next() {
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        if line.starts_with('|') && !line.starts_with("|---") && !is_head {
            let cells = line.trim_matches('|').split('|');
            rows.push(cells.map(|cell| cell.trim().replace('`', "")).collect());
        }
    }
    rows
}

/// The words in the first column of a section's tables; a cell may list several.
pub(crate) fn words(section: &str) -> Vec<String> {
    let first = rows(section)
        .into_iter()
        .filter_map(|row| row.into_iter().next());
    first
        .flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
