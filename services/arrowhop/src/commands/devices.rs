//! `arrowhop devices`.

use arrowhop_train::Device;
use bytesize::ByteSize;
use serde_json::json;

use crate::cli::{Devices, Output, machine_memory};
use crate::exit::Exit;
use crate::report::{csv_field, print, table};

pub(super) fn devices(options: &Devices) -> anyhow::Result<Exit> {
    let machine = machine_memory().ok();
    let devices = Device::all();
    let memory = |device: &Device| if device.is_cpu() { machine } else { device.memory() };
    print(&match options.output {
        Output::Json => {
            let list = devices.iter().map(|device| {
                json!({
                    "name": device.name(),
                    "kind": device.kind().to_string(),
                    "model": device.model(),
                    "memory_bytes": memory(device),
                })
            });
            let list: Vec<_> = list.collect();
            format!("{:#}\n", json!({ "schema_version": 1, "devices": list }))
        }
        Output::Csv => {
            let line = |device: &Device| {
                let memory = memory(device).map(|bytes| bytes.to_string()).unwrap_or_default();
                let (name, kind) = (device.name(), device.kind());
                format!("{name},{kind},{},{memory}\n", csv_field(device.model()))
            };
            let lines: String = devices.iter().map(line).collect();
            format!("name,kind,model,memory_bytes\n{lines}")
        }
        Output::Table => {
            let mut rows = table(["Device", "Kind", "Model", "Memory"], &[3]);
            for device in &devices {
                let memory = memory(device).map_or("unknown".into(), |bytes| {
                    ByteSize::b(bytes).display().iec().to_string()
                });
                let kind = device.kind().to_string();
                rows.add_row([device.name(), &kind, device.model(), &memory]);
            }
            format!("{rows}\n")
        }
    })?;
    Ok(Exit::Done)
}
