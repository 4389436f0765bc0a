//! Tables for people: columns aligned, colour only on a terminal.

use std::io::{self, Write};

/// A cell, and how alarming it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

/// What a word tells at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// All is well.
    Good,
    /// It is being seen to.
    Uneasy,
    /// A person must act.
    Bad,
}

impl Tone {
    /// Of a status or a state.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "running" | "serving" | "healthy" => Self::Good,
            "failed" | "quarantined" | "refused" => Self::Bad,
            "backoff" | "suspect" | "killing" => Self::Uneasy,
            word if word.starts_with("unhealthy") => Self::Bad,
            word if word.starts_with("degraded") || word.starts_with("waiting") => Self::Uneasy,
            _ => Self::Plain,
        }
    }

    /// The SGR parameters of ECMA-48.
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Uneasy => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

impl Cell {
    /// Coloured by what its word means.
    pub(super) fn word(text: impl Into<String>) -> Self {
        let text = text.into();
        let tone = Tone::of(&text);
        Self { text, tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(value: T) -> Self {
        Self {
            text: value.to_string(),
            tone: Tone::Plain,
        }
    }
}

/// A cell of what may not be there.
pub(super) fn perhaps<T: ToString>(value: Option<T>) -> Cell {
    value.map_or_else(|| Cell::from("-"), Cell::from)
}

/// Rows under a head.
#[derive(Debug)]
pub(super) struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) const fn new(head: &'static [&'static str]) -> Self {
        Self {
            head,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Prints it; the last column is as long as it is.
    pub(super) fn print(&self, out: &mut impl Write, colour: bool) -> io::Result<()> {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let longest = cells.map(|cell| cell.text.chars().count()).max();
            let head = self.head.get(column).map_or(0, |head| head.len());
            longest.unwrap_or_default().max(head)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let head = self.head.iter().map(Cell::from).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            line(out, row, &widths, colour)?;
        }
        Ok(())
    }
}

fn line(out: &mut impl Write, row: &[Cell], widths: &[usize], colour: bool) -> io::Result<()> {
    let last = row.len().saturating_sub(1);
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        match cell.tone.code().filter(|_| colour) {
            Some(code) => write!(out, "\x1b[{code}m{}\x1b[0m", cell.text)?,
            None => write!(out, "{}", cell.text)?,
        }
        if column < last {
            let padding = width.saturating_sub(cell.text.chars().count()) + 2;
            write!(out, "{:padding$}", "")?;
        }
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(colour: bool) -> String {
        let mut table = Table::new(&["TENANT", "STATE"]);
        table.row(vec!["a".into(), Cell::word("running")]);
        table.row(vec!["long-name".into(), Cell::word("quarantined")]);
        table.row(vec![perhaps(None::<u8>), Cell::word("odd")]);
        let mut out = Vec::new();
        table.print(&mut out, colour).expect("a vector takes it");
        String::from_utf8(out).expect("it is text")
    }

    #[test]
    fn columns_are_aligned_and_words_coloured_only_where_that_is_wanted() {
        assert_eq!(
            printed(false),
            "TENANT     STATE\n\
             a          running\n\
             long-name  quarantined\n\
             -          odd\n"
        );
        let coloured = printed(true);
        assert!(coloured.contains("a          \x1b[32mrunning\x1b[0m\n"));
        assert!(coloured.contains("\x1b[31mquarantined\x1b[0m"));
        assert!(coloured.contains("-          odd\n"));
    }
}
