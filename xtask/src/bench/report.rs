//! The report: tables of figures, as text and as JSON.

use std::fmt;

use serde_json::{Map, Value, json};

/// A table. The unit of a column is part of its name.
pub(super) struct Table {
    /// A word, its name in JSON.
    pub(super) name: &'static str,
    /// What was measured.
    pub(super) title: String,
    /// Names of the columns behind the first.
    pub(super) columns: &'static [&'static str],
    /// What a row is about, and its figures; NaN where there is none.
    pub(super) rows: Vec<(String, Vec<f64>)>,
}

impl Table {
    /// The same for machines.
    pub(super) fn to_json(&self) -> Value {
        let row = |(what, figures): &(String, Vec<f64>)| {
            let mut object = Map::new();
            object.insert("what".to_owned(), json!(what));
            object.extend(self.columns.iter().zip(figures).map(|(name, figure)| ((*name).to_owned(), json!(figure))));
            Value::Object(object)
        };
        json!({ "name": self.name, "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.rows.iter().map(|(what, _)| what.len()).max().unwrap_or(0);
        writeln!(to, "{}", self.title)?;
        write!(to, "  {:first$}", "")?;
        self.columns.iter().try_for_each(|name| write!(to, "  {name:>10}"))?;
        writeln!(to)?;
        for (what, figures) in &self.rows {
            write!(to, "  {what:first$}")?;
            for (name, figure) in self.columns.iter().zip(figures) {
                let width = name.len().max(10);
                if figure.is_nan() {
                    write!(to, "  {:>width$}", "-")?;
                } else {
                    write!(to, "  {figure:>width$.*}", if *figure < 10.0 { 3 } else { 1 })?;
                }
            }
            writeln!(to)?;
        }
        Ok(())
    }
}

/// The middle one, or the mean of the two in the middle; NaN where there is none.
pub(super) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => f64::NAN,
        Some(&figure) if sorted.len() % 2 == 1 => figure,
        Some(&figure) => (figure + sorted[middle - 1]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn a_table_is_aligned_and_its_json_has_the_same_figures() {
        let table = Table {
            name: "start",
            title: "Start".to_owned(),
            columns: &["wall_ms", "ratio"],
            rows: vec![("ss -tan".to_owned(), vec![40.25, 1.0]), ("tcptrace".to_owned(), vec![100.0, f64::NAN])],
        };
        let text = "Start\n               wall_ms       ratio\n  ss -tan         40.2       1.000\n  \
                    tcptrace       100.0           -\n";
        assert_eq!(table.to_string(), text);
        let row = &table.to_json()["rows"][1];
        assert_eq!((&row["what"], &row["wall_ms"], &row["ratio"]), (&json!("tcptrace"), &json!(100.0), &Value::Null));
    }
}
