//! The `[search]` section.

use arrowhop_search::{CompileSpace, FitSpace, Space};
use arrowhop_types::{Loss, Precision, Problems};
use toml::Table;

use super::fields::Fields;
use super::terms::{class_weight, outputs, terms};
use super::{Method, Search, networks, optimizer};

pub(super) fn read(table: Option<Table>, problems: &mut Problems) -> Option<Search> {
    let Some(table) = table else {
        problems.push("search", "is needed: a [search] section with `networks` and optimizers");
        return None;
    };
    let mut fields = Fields::new(table, "search", problems);
    let method = fields.choice("method", &[("grid", Method::Grid), ("random", Method::Random)]);
    let method = method.unwrap_or(Method::Grid);
    let configs = fields.count("configs", 10_000);
    match (method, configs) {
        (Method::Grid, Some(_)) => {
            fields.wrong("configs", "a grid has as many as it has; bound it with `configs_max`");
        }
        (Method::Random, None) => fields.wrong("configs", "is needed: how many to draw"),
        _ => {}
    }
    let configs_max = fields.count("configs_max", 10_000);
    let networks = fields.values("networks");
    if networks.is_none() {
        fields.wrong("networks", "is needed: files with the networks' Keras JSON");
    }
    let batch_rows = fields.counts("batch_size");
    let passes = fields.counts("passes");
    let precisions = fields.choices("precision", &Precision::ALL.map(|of| (of.name(), of)));
    let losses = terms(&mut fields, "loss");
    let metrics = terms(&mut fields, "metrics");
    let class_weight = class_weight(&mut fields);
    let outputs = outputs(&mut fields);
    let optimizers = fields.tables("optimizer");
    if optimizers.is_none() {
        fields.wrong("optimizer", "is needed: at least one [[search.optimizer]]");
    }
    fields.finish();
    let losses = losses.unwrap_or_else(|| vec![Loss::CATEGORICAL_CROSSENTROPY]);
    let compiles = optimizers
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .filter_map(|(i, table)| {
            let optimizer = optimizer::read(i, table, problems)?;
            Some(CompileSpace { optimizer, losses: losses.clone() })
        })
        .collect();
    let networks = networks::read(networks?, problems);
    let space = Space {
        architectures: networks.iter().map(|network| network.name.clone()).collect(),
        compiles,
        fits: vec![FitSpace {
            batch_rows: batch_rows.unwrap_or_else(|| vec![32]),
            passes: passes.unwrap_or_else(|| vec![1]),
            precisions: precisions.unwrap_or_else(|| vec![Precision::F32]),
        }],
    };
    let count = |count: u64| u32::try_from(count).expect("at most 10,000");
    Some(Search {
        method,
        configs: configs.map(count),
        configs_max: configs_max.map(count),
        space,
        metrics,
        outputs,
        class_weight,
        networks,
    })
}
