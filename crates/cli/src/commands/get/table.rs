//! Tables as a server makes them, for a terminal.

use serde_json::Value;

use crate::command_error::CommandError;
use crate::commands::document_arguments::Format;
use crate::ui::Ui;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Whether the names of the columns stand above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    Shown,
    Left,
}

impl Table {
    /// Returns a table with these columns and rows.
    pub(crate) fn new(columns: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows }
    }

    /// Reads a table of Kubernetes' API (`meta.k8s.io/v1 Table`), or makes one of names where a server has
    /// sent documents. With `all_namespaces`, the namespace is the first column.
    pub(crate) fn of(value: &Value, format: &Format, all_namespaces: bool) -> Self {
        let mut table = match value["kind"].as_str() {
            Some("Table") => Self::of_table(value, format),
            _ => Self::of_documents(value),
        };
        if all_namespaces {
            let objects: Vec<&Value> = match value["kind"].as_str() {
                Some("Table") => array(&value["rows"]).map(|row| &row["object"]).collect(),
                _ => documents(value).collect(),
            };
            table.columns.insert(0, "NAMESPACE".to_owned());
            for (row, object) in table.rows.iter_mut().zip(objects) {
                row.insert(0, cell(&object["metadata"]["namespace"]));
            }
        }
        table
    }

    fn of_table(value: &Value, format: &Format) -> Self {
        let definitions: Vec<&Value> = array(&value["columnDefinitions"]).collect();
        let is_shown = |at: usize| {
            let priority = definitions.get(at).and_then(|column| column["priority"].as_i64());
            *format == Format::Wide || priority.unwrap_or(0) == 0
        };
        let columns = definitions
            .iter()
            .enumerate()
            .filter(|(at, _)| is_shown(*at))
            .map(|(_, column)| column["name"].as_str().unwrap_or_default().to_uppercase())
            .collect();
        let row = |row: &Value| {
            let cells = array(&row["cells"]).enumerate().filter(|(at, _)| is_shown(*at));
            cells.map(|(_, value)| cell(value)).collect()
        };
        Self { columns, rows: array(&value["rows"]).map(row).collect() }
    }

    fn of_documents(value: &Value) -> Self {
        let row = |document: &Value| {
            let metadata = &document["metadata"];
            vec![cell(&metadata["name"]), cell(&metadata["creationTimestamp"])]
        };
        Self::new(&["NAME", "CREATED"], documents(value).map(row).collect())
    }

    /// Takes the columns over from an earlier table of the same stream, where this one names none.
    pub(crate) fn take_columns(&mut self, earlier: Option<&Self>) {
        if let (true, Some(earlier)) = (self.columns.len() < 2, earlier) {
            self.columns.clone_from(&earlier.columns);
        }
    }

    /// Replaces the names of its documents: those of several kinds say which they are.
    pub(crate) fn name_with(&mut self, named: impl Fn(&str) -> String) {
        let Some(at) = self.columns.iter().position(|column| column == "NAME") else { return };
        for name in self.rows.iter_mut().filter_map(|row| row.get_mut(at)) {
            *name = named(name);
        }
    }

    pub(crate) fn has_same_columns(&self, other: &Self) -> bool {
        self.columns == other.columns
    }

    /// Puts the rows of another one below.
    pub(crate) fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints it, its columns as wide as what stands in them.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub(crate) fn print(&self, ui: &mut Ui, head: Head) -> Result<(), CommandError> {
        let lines = || std::iter::once(&self.columns).chain(&self.rows);
        let width = |at: usize| lines().filter_map(|line| line.get(at)).map(|cell| len(cell)).max();
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|at| width(at).unwrap_or_default()).collect();
        for line in lines().skip(usize::from(head == Head::Left)) {
            let cells = line.iter().enumerate().map(|(at, cell)| {
                let width = widths.get(at).copied().unwrap_or_default();
                format!("{cell:<width$}")
            });
            ui.data(cells.collect::<Vec<_>>().join("   ").trim_end())?;
        }
        Ok(())
    }
}

/// Returns what stands in a cell, on one line.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.replace('\n', "\\n"),
        other => other.to_string(),
    };
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn len(cell: &str) -> usize {
    cell.chars().count()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn documents(value: &Value) -> impl Iterator<Item = &Value> {
    let alone = value.get("items").is_none().then_some(value);
    array(&value["items"]).chain(alone)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_those_that_the_server_shows() {
        let value = json!({
            "kind": "Table",
            "columnDefinitions": [
                { "name": "Name", "priority": 0 }, { "name": "State" }, { "name": "Uuid", "priority": 1 }
            ],
            "rows": [
                { "cells": ["a", "in\nprogress", 1], "object": { "metadata": { "namespace": "lab" } } },
                { "cells": ["b", null, 2], "object": { "metadata": { "namespace": "default" } } }
            ]
        });
        let table = Table::of(&value, &Format::Table, false);
        let rows = vec![
            vec!["a".to_owned(), "in\\nprogress".to_owned()],
            vec!["b".to_owned(), "<none>".to_owned()],
        ];
        assert_eq!(table, Table::new(&["NAME", "STATE"], rows));
        let wide = Table::of(&value, &Format::Wide, true);
        assert_eq!(wide.columns, ["NAMESPACE", "NAME", "STATE", "UUID"]);
        assert_eq!(wide.rows[1], ["default", "b", "<none>", "2"]);
    }

    #[test]
    fn documents_are_a_table_of_names() {
        let one = json!({ "kind": "Secret", "metadata": { "name": "key", "namespace": "lab" } });
        let table = Table::of(&one, &Format::Table, true);
        assert_eq!(table.rows, [["lab", "key", "<none>"]]);
        let list = json!({ "kind": "SecretList", "items": [one, one] });
        assert_eq!(Table::of(&list, &Format::Table, false).rows.len(), 2);
    }
}
