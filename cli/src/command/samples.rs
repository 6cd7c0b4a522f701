//! `samples`: the payloads shipped.

use serde_json::json;
use serde_json::value::to_raw_value;

use crate::args::{Format, Samples};
use crate::exit::{Exit, Failure, Result};
use crate::samples;
use crate::settings::Settings;

/// Runs it.
pub fn run(settings: &Settings, args: &Samples) -> Result {
    match args {
        Samples::Ls => {
            let all = samples::all();
            let rows: Vec<_> = all
                .iter()
                .map(|sample| vec![sample.name.to_owned(), sample.kind.clone(), sample.title.clone()])
                .collect();
            let items = all
                .iter()
                .map(|sample| to_raw_value(&json!({"name": sample.name, "kind": sample.kind, "title": sample.title})))
                .collect::<std::result::Result<Vec<_>, _>>()
                .map_err(|error| Failure::error(error.to_string()))?;
            settings.output(Format::Table).list("samples", &items, &["NAME", "KIND", "TITLE"], &rows)?;
        }
        Samples::Show { name } => {
            let sample = samples::find(name).ok_or_else(|| {
                Failure::not_found(format!("no sample is called {name}")).hint("see their names: callscope samples ls")
            })?;
            // Always JSON, since it is a JSON payload; exactly the bytes that `replay` sends.
            settings.output(Format::Json).write(sample.text)?;
        }
    }
    Ok(Exit::Ok)
}
