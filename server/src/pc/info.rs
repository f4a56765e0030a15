//! `sparetire pc info`: what a PC is and can.

use amt_wsman::class::consent::ConsentPolicy;
use amt_wsman::class::inventory::Product;
use amt_wsman::class::setup::{ControlMode, Provisioning};
use amt_wsman::flow::info::{Info, info};
use anyhow::Context;
use sparetire_builder::cli::Ui;

use super::{PcArgs, explained, tell_steps};
use crate::session::client::printable;

/// Options of `pc info`.
#[derive(Debug, clap::Args)]
pub struct InfoArgs {
    /// The PC.
    #[command(flatten)]
    pub pc: PcArgs,
}

pub(super) async fn run(args: &InfoArgs, ui: Ui) -> anyhow::Result<()> {
    let mut pc = args.pc.open()?;
    let found = info(&mut pc, &mut tell_steps(ui))
        .await
        .map_err(explained)
        .with_context(|| format!("asking {}", args.pc.host))?;
    if ui.json {
        return ui.print_json(&found);
    }
    for (name, value) in rows(&found) {
        ui.line(format!("{name:12}  {}", printable(&value)));
    }
    Ok(())
}

/// What is known, as name and value, in the order that a technician asks.
fn rows(info: &Info) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut row = |name, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            rows.push((name, value));
        }
    };
    let names = info.names.as_ref();
    row(
        "name",
        names.and_then(|names| full_name(names.host_name.as_deref(), names.domain_name.as_deref())),
    );
    row("AMT", info.version.map(|version| version.to_string()));
    row("power", info.power.map(|power| power.to_string()));
    row("control", info.control_mode.map(control));
    row("provisioned", info.provisioning.map(provisioning));
    row(
        "consent",
        info.consent
            .map(|consent| format!("{}; {}", policy(consent.policy), consent.state)),
    );
    if let Some(redirection) = info.redirection {
        let on = |on| if on { "on" } else { "off" };
        let kvm = redirection.kvm.map_or("not there", on);
        row(
            "redirection",
            Some(format!(
                "storage {}, serial {}, port {}, KVM {kvm}",
                on(redirection.storage),
                on(redirection.serial),
                if redirection.listener {
                    "open"
                } else {
                    "closed"
                }
            )),
        );
    }
    row(
        "can boot",
        info.boot_capabilities.as_ref().map(|names| names.join(" ")),
    );
    row("PC", info.hardware.system.as_ref().map(product));
    row("board", info.hardware.board.as_ref().map(product));
    row("UUID", info.uuid.clone());
    if let Some(bios) = &info.hardware.bios {
        row(
            "BIOS",
            Some(joined(&[
                &bios.manufacturer,
                &bios.version,
                &bios.release_date,
            ])),
        );
    }
    for cpu in &info.hardware.processors {
        let clock = cpu.clock_mhz.map(|clock| format!("{clock} MHz"));
        let cores = cpu.cores.map(|cores| format!("{cores} cores"));
        row("processor", Some(joined(&[&cpu.name, &clock, &cores])));
    }
    for module in &info.hardware.memory {
        let size = module.bytes.map(|bytes| format!("{} MiB", bytes >> 20));
        let kind = module.kind.map(str::to_owned);
        let clock = module.clock_mhz.map(|clock| format!("{clock} MHz"));
        row(
            "memory",
            Some(joined(&[
                &module.bank,
                &size,
                &kind,
                &clock,
                &module.part_number,
            ])),
        );
    }
    for disk in &info.hardware.disks {
        let size = disk
            .bytes
            .map(|bytes| format!("{} GB", bytes / 1_000_000_000));
        row("disk", Some(joined(&[&disk.id, &size])));
    }
    for port in &info.network {
        let kind = port
            .wireless
            .map(|wireless| if wireless { "WLAN" } else { "LAN" }.to_owned());
        let link = port
            .link
            .map(|up| if up { "link up" } else { "no link" }.to_owned());
        row(
            "network",
            Some(joined(&[&kind, &port.mac, &port.address, &link])),
        );
    }
    let denied = (!info.denied.is_empty()).then(|| info.denied.join(", "));
    row("not allowed", denied);
    rows
}

fn full_name(host: Option<&str>, domain: Option<&str>) -> Option<String> {
    match (host?, domain) {
        (host, Some(domain)) if !host.contains('.') => Some(format!("{host}.{domain}")),
        (host, _) => Some(host.to_owned()),
    }
}

fn product(product: &Product) -> String {
    let serial = product
        .serial_number
        .as_ref()
        .map(|serial| format!("serial {serial}"));
    joined(&[&product.manufacturer, &product.model, &serial])
}

fn joined(parts: &[&Option<String>]) -> String {
    let parts: Vec<&str> = parts.iter().filter_map(|part| part.as_deref()).collect();
    parts.join(", ")
}

fn control(mode: ControlMode) -> String {
    match mode {
        ControlMode::Client => format!("{mode}: everything but power needs consent"),
        mode => mode.to_string(),
    }
}

fn provisioning(state: Provisioning) -> String {
    match state {
        Provisioning::Before => "no".into(),
        Provisioning::Under => "being done".into(),
        Provisioning::Done => "yes".into(),
        Provisioning::Unknown(value) => format!("unknown ({value})"),
    }
}

pub(super) fn policy(policy: ConsentPolicy) -> String {
    match policy {
        ConsentPolicy::Nothing => "needed for nothing".into(),
        ConsentPolicy::Kvm => "needed for the screen".into(),
        ConsentPolicy::All => "needed for screen, storage redirection and boot options".into(),
        ConsentPolicy::Unknown(value) => format!("needed for what policy {value} says"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_has_no_row() {
        assert!(rows(&Info::default()).is_empty());
    }

    #[test]
    fn a_name_gets_its_domain_once() {
        assert_eq!(
            full_name(Some("pc7"), Some("example.org")).as_deref(),
            Some("pc7.example.org")
        );
        assert_eq!(
            full_name(Some("pc7.example.org"), Some("example.org")).as_deref(),
            Some("pc7.example.org")
        );
        assert_eq!(full_name(None, Some("example.org")), None);
    }
}
