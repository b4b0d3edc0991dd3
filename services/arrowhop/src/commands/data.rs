//! `arrowhop data`: prepare, list, show, verify, drop.

use anyhow::bail;
use arrowhop_runtime::StopSignal;
use arrowhop_source::{Description, Location, Prepared, rows_digest, shard_digest};
use arrowhop_types::{DataSet, Part};
use bytesize::ByteSize;
use serde_json::{Value, json};

use crate::cli::{DataCommand, Output};
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::kept::{Kept, KeptSet};
use crate::loading::{is_stopped, load, since};
use crate::progress::clock;
use crate::report::{csv_field, print, table};

pub(super) async fn data(command: DataCommand) -> anyhow::Result<Exit> {
    match command {
        DataCommand::Prepare { experiment, data, access, bounds, memory, state } => {
            let mut experiment = Experiment::read(&experiment, data.as_deref(), bounds)?;
            if let Some(access) = &access {
                experiment.access_by(access);
            }
            let interrupts = StopSignal::new();
            interrupts.listen()?;
            let place = memory.place(&state.folder())?;
            match load(&experiment.data, &place, &interrupts).await {
                Ok(loaded) => print(&described(&loaded.keep()?.data_set))?,
                Err(error) if is_stopped(&error) => return Ok(Exit::Interrupted),
                Err(error) => return Err(error),
            }
        }
        DataCommand::List { state, output } => {
            print(&list(&Kept::of(&state.folder()).list()?, output))?;
        }
        DataCommand::Show { source, output } => print(&shown(&source, output)?)?,
        DataCommand::Verify { name, state } => verify(Kept::of(&state.folder()).named(&name)?)?,
        DataCommand::Drop { name, state } => {
            let kept = Kept::of(&state.folder());
            let set = kept.named(&name)?;
            kept.remove(set.data_set.id)?;
            print(&format!("removed {}, {}\n", set.data_set.id, ByteSize(set.entry.bytes)))?;
        }
    }
    Ok(Exit::Done)
}

fn described(data: &DataSet) -> String {
    format!(
        "data set {} ({}): {} training and {} validation rows in {} shards\n",
        data.id,
        data.name,
        data.rows(Part::Train),
        data.rows(Part::Validation),
        data.shards.len()
    )
}

fn list(sets: &[KeptSet], output: Output) -> String {
    let rows = |data: &DataSet, part| data.rows(part);
    match output {
        Output::Table => {
            let columns = ["data set", "name", "train", "validation", "shards", "size", "prepared"];
            let mut table = table(columns, &[2, 3, 4, 5, 6]);
            for KeptSet { entry, about, data_set } in sets {
                table.add_row([
                    data_set.id.0.short(),
                    data_set.name.clone(),
                    rows(data_set, Part::Train).to_string(),
                    rows(data_set, Part::Validation).to_string(),
                    data_set.shards.len().to_string(),
                    ByteSize(entry.bytes).to_string(),
                    format!("{} ago", clock(since(about.prepared_at))),
                ]);
            }
            format!("{table}\n")
        }
        Output::Json => {
            let sets: Vec<Value> = sets.iter().map(as_json).collect();
            format!("{:#}\n", json!({ "schema_version": 1, "data_sets": sets }))
        }
        Output::Csv => {
            let mut text =
                String::from("data_set,name,train_rows,validation_rows,shards,bytes,prepared_at\n");
            for KeptSet { entry, about, data_set } in sets {
                text.push_str(&format!(
                    "{},{},{},{},{},{},{}\n",
                    data_set.id,
                    csv_field(&data_set.name),
                    rows(data_set, Part::Train),
                    rows(data_set, Part::Validation),
                    data_set.shards.len(),
                    entry.bytes,
                    about.prepared_at
                ));
            }
            text
        }
    }
}

fn as_json(KeptSet { entry, about, data_set }: &KeptSet) -> Value {
    let sources = about.sources.iter();
    let sources = sources.map(
        |of| json!({ "name": of.name, "rows": of.rows, "version": of.version, "way": of.way }),
    );
    let sources: Vec<Value> = sources.collect();
    json!({
        "data_set": data_set.id.to_string(),
        "name": data_set.name,
        "train_rows": data_set.rows(Part::Train),
        "validation_rows": data_set.rows(Part::Validation),
        "shards": data_set.shards.len(),
        "rows_digest": data_set.rows_digest.to_string(),
        "bytes": entry.bytes,
        "prepared_at": about.prepared_at,
        "sources": sources,
    })
}

fn shown(source: &Location, output: Output) -> anyhow::Result<String> {
    let Description { name, schema, rows, bytes, version } = source.describe()?;
    let types = schema.fields().iter();
    let types = types.map(|field| (field.name().clone(), field.data_type().to_string()));
    Ok(match output {
        Output::Table => {
            let mut table = table(["column", "type"], &[]);
            types.for_each(|(name, data_type)| {
                table.add_row([name, data_type]);
            });
            let count = |count: Option<u64>| count.map_or("?".to_owned(), |n| n.to_string());
            let size = bytes.map_or_else(String::new, |bytes| format!(", {}", ByteSize(bytes)));
            format!("{name}: {} rows{size}\n{table}\n", count(rows))
        }
        Output::Json => {
            let columns: Vec<Value> =
                types.map(|(name, of)| json!({ "name": name, "type": of })).collect();
            let object = json!({
                "schema_version": 1, "name": name, "rows": rows, "bytes": bytes, "version": version,
                "columns": columns,
            });
            format!("{object:#}\n")
        }
        Output::Csv => {
            let lines =
                types.map(|(name, of)| format!("{},{}\n", csv_field(&name), csv_field(&of)));
            format!("column,type\n{}", lines.collect::<String>())
        }
    })
}

/// Compares every shard with its digest.
fn verify(KeptSet { entry, data_set, .. }: KeptSet) -> anyhow::Result<()> {
    let Prepared { data_set, shards, .. } = Prepared::open(&entry.folder, data_set)?;
    for (info, shard) in data_set.shards.iter().zip(&shards) {
        let found = shard_digest(&shard.train, &shard.validation);
        if found != info.digest {
            bail!(
                "shard {} in {} is damaged: its digest is {}, not {}; drop the data set and prepare it \
                 again",
                info.shard,
                entry.folder.display(),
                found.short(),
                info.digest.short()
            );
        }
    }
    let all = shards.iter().map(|shard| (&*shard.train, &*shard.validation));
    if rows_digest(all) != data_set.rows_digest {
        bail!("the rows in {} are not those of its description", entry.folder.display());
    }
    print(&format!("{} shards of {} are sound\n", shards.len(), data_set.id))?;
    Ok(())
}
