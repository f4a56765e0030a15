//! Put: which changes an object takes, and which it refuses (DSP0226 section 7.2; reference sections 1.6 and 2.3).

use std::time::Instant;

use super::classes::Put;
use super::fault::Fault;
use super::repository::{Instance, Repository};
use super::request::{Elements, text_of};
use super::value::Properties;
use crate::firmware::{BOOT_FLAGS, BootPut, BootRefusal, ConsentPolicy, Firmware, Switches};

pub(super) fn put(
    firmware: &mut Firmware,
    repository: &mut Repository,
    now: Instant,
    instance: &Instance,
    object: Elements<'_, '_>,
) -> Result<(), Fault> {
    match &instance.class.put {
        Put::Never => Err(Fault::ActionNotSupported),
        Put::Keep(names) => keep(repository, instance, names, object),
        Put::BootSettings => boot_settings(firmware, now, object),
        Put::RedirectionService => redirection_service(firmware, object),
        Put::OptInService => opt_in_service(firmware, object),
    }
}

/// Keeps new values of `names`; anything else has to be as it is.
fn keep(
    repository: &mut Repository,
    instance: &Instance,
    names: &[&str],
    object: Elements<'_, '_>,
) -> Result<(), Fault> {
    let mut changes = Properties::new();
    for name in object.names() {
        let old = instance
            .properties
            .get(name)
            .ok_or(Fault::InvalidRepresentation)?;
        let texts: Vec<_> = object.all(name).map(text_of).collect();
        let new = old.same_kind(&texts).ok_or(Fault::InvalidRepresentation)?;
        if new == *old {
            continue;
        }
        if !names.contains(&name) {
            return Err(Fault::InvalidRepresentation);
        }
        changes.insert(name.into(), new);
    }
    for key in instance.class.keys {
        object.node(key).ok_or(Fault::MissingValue(key))?;
    }
    repository.keep(instance, changes);
    Ok(())
}

/// Read-only elements may be sent back or left out: consoles do either.
fn boot_settings(
    firmware: &mut Firmware,
    now: Instant,
    object: Elements<'_, '_>,
) -> Result<(), Fault> {
    let mut put = BootPut {
        ider_boot_device: object.number("IDERBootDevice")?,
        boot_media_index: object.number("BootMediaIndex")?,
        firmware_verbosity: object.number("FirmwareVerbosity")?,
        ..BootPut::default()
    };
    for row in BOOT_FLAGS {
        if let Some(on) = object.boolean(row.name)? {
            put.flags.push((row.flag, on));
        }
    }
    if object
        .text("InstanceID")
        .is_some_and(|id| id != "Intel(r) AMT:BootSettingData 0")
    {
        return Err(Fault::InvalidValue("InstanceID"));
    }
    for name in ["ElementName", "InstanceID", "OwningEntity"] {
        object.node(name).ok_or(Fault::MissingValue(name))?;
    }
    firmware
        .put_boot_settings(now, &put)
        .map_err(|refusal| match refusal {
            BootRefusal::ConsentRequired => Fault::AccessDenied,
            BootRefusal::Missing(name) => Fault::MissingValue(name),
            BootRefusal::Invalid(name) => Fault::InvalidValue(name),
        })
}

fn redirection_service(firmware: &mut Firmware, object: Elements<'_, '_>) -> Result<(), Fault> {
    let state = object.required("EnabledState")?;
    let listener = object
        .boolean("ListenerEnabled")?
        .ok_or(Fault::MissingValue("ListenerEnabled"))?;
    let (ider, sol) = switches(state).ok_or(Fault::InvalidValue("EnabledState"))?;
    let kvm = firmware.switches().kvm;
    firmware.set_switches(Switches {
        ider,
        sol,
        kvm,
        listener,
    });
    Ok(())
}

/// IDE-R and SOL for a value of `EnabledState`.
pub(super) fn switches(state: u32) -> Option<(bool, bool)> {
    match state {
        32768 => Some((false, false)),
        32769 => Some((true, false)),
        32770 => Some((false, true)),
        32771 => Some((true, true)),
        _ => None,
    }
}

fn opt_in_service(firmware: &mut Firmware, object: Elements<'_, '_>) -> Result<(), Fault> {
    let required = object.required("OptInRequired")?;
    let policy = ConsentPolicy::from_code(required).ok_or(Fault::InvalidValue("OptInRequired"))?;
    if firmware.set_consent_policy(policy) {
        Ok(())
    } else {
        Err(Fault::InvalidValue("OptInRequired"))
    }
}
