//! Documents as a table for people, as Kubernetes' API prints them.

mod columns;

use std::time::SystemTime;

use serde_json::{Value, json};
use strongroom_model::dialect::object::Object;

use self::columns::{Column, columns};
use super::target::{Parameters, Target};

/// How documents of a kind become a table.
pub(super) struct Table {
    columns: &'static [Column],
    inside: Inside,
    now: SystemTime,
}

/// What of a document stands in its row besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Nothing,
    Metadata,
    Document,
}

impl Table {
    /// Returns how the documents of a request become one.
    pub(super) fn of(target: &Target, parameters: &Parameters) -> Self {
        let inside = match parameters.text("includeObject") {
            Some("None") => Inside::Nothing,
            Some("Object") => Inside::Document,
            _ => Inside::Metadata,
        };
        Self { columns: columns(target.resource), inside, now: SystemTime::now() }
    }

    /// Returns a table of documents.
    pub(super) fn whole<'a>(
        &self,
        objects: impl Iterator<Item = &'a Object>,
        metadata: &Value,
    ) -> Value {
        let rows: Vec<Value> = objects.map(|object| self.row(object)).collect();
        let columns: Vec<Value> = self.columns.iter().map(Column::definition).collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": columns,
            "rows": rows,
        })
    }

    fn row(&self, object: &Object) -> Value {
        let cells: Vec<Value> =
            self.columns.iter().map(|column| column.cell(object, self.now)).collect();
        let mut row = json!({ "cells": cells });
        match self.inside {
            Inside::Nothing => {}
            Inside::Document => row["object"] = object.clone().into_value(),
            Inside::Metadata => {
                row["object"] = json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": object.at(&["metadata"]),
                });
            }
        }
        row
    }
}
