//! What the classes' methods do: from parameters to `ReturnValue` and the rest of the output.
//!
//! A parameter that is missing or malformed is a fault; a request that is understood and refused is a return value,
//! with HTTP status 200 (reference sections 1.6, 1.8 and 2).

use std::time::Instant;

use ct_codecs::{Base64, Decoder, Encoder};

use super::fault::Fault;
use super::repository::{Instance, Repository};
use super::request::{Elements, reference, text_of};
use super::value::{Properties, Value};
use crate::firmware::{
    AccessPermission, AclEntry, AclError, BootRefusal, BootSource, Firmware, Ha1, Realms,
    SessionKind, Switches, User,
};

/// A call.
#[derive(Debug)]
pub(super) struct Call<'a, 'input> {
    pub(super) instance: &'a Instance,
    pub(super) method: &'a str,
    pub(super) input: Elements<'a, 'input>,
    pub(super) now: Instant,
}

/// Does it; the output's elements.
pub(super) fn invoke(
    firmware: &mut Firmware,
    repository: &mut Repository,
    call: &Call<'_, '_>,
) -> Result<Properties, Fault> {
    let input = call.input;
    match (call.instance.class.name, call.method) {
        ("CIM_PowerManagementService", "RequestPowerStateChange") => {
            request_power_state_change(firmware, call)
        }
        ("CIM_BootConfigSetting", "ChangeBootOrder") => change_boot_order(firmware, call),
        ("CIM_BootService", "SetBootConfigRole") => set_boot_config_role(firmware, call),
        // There is no One-Click Recovery or remote erase to switch.
        ("CIM_BootService", "RequestStateChange") => Ok(result(u32::from(
            input.required("RequestedState")? != 32768,
        ))),
        ("AMT_RedirectionService", "RequestStateChange") => redirection_state(firmware, input),
        ("AMT_RedirectionService", "TerminateSession") => terminate_session(firmware, input),
        ("CIM_KVMRedirectionSAP", "RequestStateChange") => kvm_state(firmware, input),
        ("IPS_OptInService", method) => opt_in(firmware, method, call),
        ("IPS_PowerManagementService", "RequestOSPowerSavingStateChange") => {
            let state = input.required("OSPowerSavingState")?;
            if !matches!(state, 2 | 3) {
                return Ok(result(5));
            }
            repository.keep(
                call.instance,
                Properties::from([("OSPowerSavingState".into(), state.into())]),
            );
            Ok(result(0))
        }
        ("AMT_SetupAndConfigurationService", "GetUuid") => Ok(output(
            0,
            [("UUID", base64(&firmware.config().uuid).into())],
        )),
        ("AMT_SetupAndConfigurationService", "CommitChanges") => Ok(result(0)),
        ("AMT_TimeSynchronizationService", "GetLowAccuracyTimeSynch") => {
            let unix = i64::try_from(firmware.unix(call.now)).unwrap_or(i64::MAX);
            Ok(output(0, [("Ta0", Value::Int(unix))]))
        }
        ("AMT_MessageLog", method) => message_log(firmware, method, input),
        ("AMT_AuthorizationService", method) => authorization(firmware, method, input),
        _ => Err(Fault::ActionNotSupported),
    }
}

fn result(return_value: u32) -> Properties {
    output(return_value, [])
}

fn output<const N: usize>(return_value: u32, more: [(&str, Value); N]) -> Properties {
    let mut properties: Properties = more
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    properties.insert("ReturnValue".into(), return_value.into());
    properties
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_to_string(bytes).unwrap_or_default()
}

// ---- power and boot

/// `ReturnValue` 5 of CIM methods.
const INVALID_PARAMETER: u32 = 5;

fn request_power_state_change(
    firmware: &mut Firmware,
    call: &Call<'_, '_>,
) -> Result<Properties, Fault> {
    let state = call.input.required("PowerState")?;
    let element = call
        .input
        .node("ManagedElement")
        .ok_or(Fault::MissingValue("ManagedElement"))?;
    let element = reference(element).ok_or(Fault::InvalidValue("ManagedElement"))?;
    let name = element.selectors.iter().find(|(key, _)| key == "Name");
    if element.class != "CIM_ComputerSystem"
        || name.is_some_and(|(_, name)| name != "ManagedSystem")
    {
        return Ok(result(INVALID_PARAMETER));
    }
    Ok(result(firmware.request_power_state(call.now, state) as u32))
}

fn consent(refusal: BootRefusal) -> Fault {
    match refusal {
        BootRefusal::ConsentRequired => Fault::AccessDenied,
        BootRefusal::Missing(name) => Fault::MissingValue(name),
        BootRefusal::Invalid(name) => Fault::InvalidValue(name),
    }
}

fn change_boot_order(firmware: &mut Firmware, call: &Call<'_, '_>) -> Result<Properties, Fault> {
    /// `ReturnValue` for a reference to something else than a boot source.
    const INVALID_REFERENCE: u32 = 4;
    // Only the first source counts. One without content is a fault, as has been seen on real machines.
    let source = match call.input.node("Source") {
        None => None,
        Some(node) => {
            let wanted = reference(node).ok_or(Fault::InvalidRepresentation)?;
            let id = wanted
                .selectors
                .iter()
                .find(|(key, _)| key == "InstanceID")
                .map(|(_, id)| id.as_str());
            match id
                .and_then(BootSource::from_instance_id)
                .filter(|_| wanted.class == "CIM_BootSourceSetting")
            {
                None => return Ok(result(INVALID_REFERENCE)),
                source => source,
            }
        }
    };
    firmware
        .change_boot_order(call.now, source)
        .map(|done| result(done as u32))
        .map_err(consent)
}

fn set_boot_config_role(firmware: &mut Firmware, call: &Call<'_, '_>) -> Result<Properties, Fault> {
    let role = call.input.required("Role")?;
    let setting = call
        .input
        .node("BootConfigSetting")
        .ok_or(Fault::MissingValue("BootConfigSetting"))?;
    let setting = reference(setting).ok_or(Fault::InvalidValue("BootConfigSetting"))?;
    let id = setting
        .selectors
        .iter()
        .find(|(key, _)| key == "InstanceID")
        .map(|(_, id)| id.as_str());
    if setting.class != "CIM_BootConfigSetting" || id != Some("Intel(r) AMT: Boot Configuration 0")
    {
        return Ok(result(INVALID_PARAMETER));
    }
    firmware
        .set_boot_config_role(call.now, role)
        .map(|done| result(done as u32))
        .map_err(consent)
}

// ---- redirection and consent

fn redirection_state(
    firmware: &mut Firmware,
    input: Elements<'_, '_>,
) -> Result<Properties, Fault> {
    let Some((ider, sol)) = super::put::switches(input.required("RequestedState")?) else {
        return Ok(result(INVALID_PARAMETER));
    };
    let Switches { kvm, listener, .. } = *firmware.switches();
    firmware.set_switches(Switches {
        ider,
        sol,
        kvm,
        listener,
    });
    Ok(result(0))
}

fn terminate_session(
    firmware: &mut Firmware,
    input: Elements<'_, '_>,
) -> Result<Properties, Fault> {
    let kind = match input.required("SessionType")? {
        0 => SessionKind::Ider,
        1 => SessionKind::Sol,
        _ => return Ok(result(0x24)),
    };
    Ok(result(if firmware.terminate_session(kind) {
        0
    } else {
        0x814
    }))
}

fn kvm_state(firmware: &mut Firmware, input: Elements<'_, '_>) -> Result<Properties, Fault> {
    let kvm = match input.required("RequestedState")? {
        2 => true,
        3 => false,
        _ => return Ok(result(INVALID_PARAMETER)),
    };
    let switches = Switches {
        kvm,
        ..*firmware.switches()
    };
    firmware.set_switches(switches);
    Ok(result(0))
}

fn opt_in(firmware: &mut Firmware, method: &str, call: &Call<'_, '_>) -> Result<Properties, Fault> {
    let returned = match method {
        "StartOptIn" => firmware.start_consent(call.now),
        "SendOptInCode" => {
            let code = call.input.required("OptInCode")?;
            firmware.send_consent_code(call.now, code)
        }
        "CancelOptIn" => firmware.cancel_consent(),
        _ => return Err(Fault::ActionNotSupported),
    };
    Ok(result(returned as u32))
}

// ---- event log

fn message_log(
    firmware: &mut Firmware,
    method: &str,
    input: Elements<'_, '_>,
) -> Result<Properties, Fault> {
    match method {
        // Positions count from 1; an empty log has none.
        "PositionToFirstRecord" => {
            let empty = firmware.log_records().len() == 0;
            Ok(output(
                0,
                [("IterationIdentifier", u32::from(!empty).into())],
            ))
        }
        "GetRecords" => {
            let from =
                usize::try_from(input.required("IterationIdentifier")?).unwrap_or(usize::MAX);
            let most = usize::try_from(input.required("MaxReadRecords")?).unwrap_or(usize::MAX);
            let count = firmware.log_records().len();
            if most == 0 || from > count.max(1) {
                return Ok(result(0x24));
            }
            let start = from.saturating_sub(1);
            let records: Vec<_> = firmware
                .log_records()
                .skip(start)
                .take(most)
                .map(|record| base64(record).into())
                .collect();
            let next = start.saturating_add(records.len());
            let identifier = i64::try_from(next.saturating_add(1)).unwrap_or(i64::MAX);
            Ok(output(
                0,
                [
                    ("IterationIdentifier", Value::Int(identifier)),
                    ("NoMoreRecords", (next >= count).into()),
                    ("RecordArray", Value::List(records)),
                ],
            ))
        }
        "ClearLog" => Ok(result(if firmware.clear_log() { 0 } else { 0x80b })),
        "FreezeLog" => {
            let freeze = input
                .boolean("Freeze")?
                .ok_or(Fault::MissingValue("Freeze"))?;
            firmware.freeze_log(freeze);
            Ok(result(0))
        }
        _ => Err(Fault::ActionNotSupported),
    }
}

// ---- accounts

/// Handles in one answer of EnumerateUserAclEntries.
const MAX_HANDLES: usize = 50;

fn authorization(
    firmware: &mut Firmware,
    method: &str,
    input: Elements<'_, '_>,
) -> Result<Properties, Fault> {
    let handle = || input.required("Handle");
    let status = |done: Result<(), AclError>| result(done.map_or_else(AclError::status, |()| 0));
    match method {
        "AddUserAclEntryEx" => Ok(
            match acl_entry(input).and_then(|entry| firmware.add_acl_entry(entry)) {
                Ok(handle) => output(0, [("Handle", handle.into())]),
                Err(error) => result(error.status()),
            },
        ),
        "UpdateUserAclEntryEx" => {
            let handle = handle()?;
            Ok(status(acl_entry(input).and_then(|entry| {
                firmware.update_acl_entry(handle, entry)
            })))
        }
        "RemoveUserAclEntry" => Ok(status(firmware.remove_acl_entry(handle()?))),
        "SetAclEnabledState" => {
            let enabled = input
                .boolean("Enabled")?
                .ok_or(Fault::MissingValue("Enabled"))?;
            Ok(status(firmware.enable_acl_entry(handle()?, enabled)))
        }
        "EnumerateUserAclEntries" => {
            let start = usize::try_from(input.required("StartIndex")?).unwrap_or(usize::MAX);
            let all: Vec<u32> = firmware
                .acl_entries()
                .filter_map(|user| user.handle)
                .collect();
            if start == 0 || start > all.len().max(1) {
                return Ok(result(0x24));
            }
            let handles: Vec<Value> = all
                .iter()
                .skip(start - 1)
                .take(MAX_HANDLES)
                .map(|handle| (*handle).into())
                .collect();
            let count = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
            let (total, returned) = (count(all.len()), count(handles.len()));
            Ok(output(
                0,
                [
                    ("TotalCount", total),
                    ("HandlesCount", returned),
                    ("Handles", Value::List(handles)),
                ],
            ))
        }
        "GetUserAclEntryEx" => Ok(with_user(firmware, handle()?, |user| {
            let realms = Value::List(user.realms.numbers().map(Value::from).collect());
            let access = (user.access as u32).into();
            output(
                0,
                [
                    ("DigestUsername", user.name.as_str().into()),
                    ("AccessPermission", access),
                    ("Realms", realms),
                ],
            )
        })),
        "GetAclEnabledState" => Ok(with_user(firmware, handle()?, |user| {
            output(0, [("Enabled", user.enabled.into())])
        })),
        "GetAdminAclEntry" => Ok(output(0, [("Username", "admin".into())])),
        "GetAdminAclEntryStatus" => Ok(output(0, [("IsDefault", false.into())])),
        _ => Err(Fault::ActionNotSupported),
    }
}

fn with_user(
    firmware: &Firmware,
    handle: u32,
    found: impl FnOnce(&User) -> Properties,
) -> Properties {
    let user = firmware
        .acl_entries()
        .find(|user| user.handle == Some(handle));
    user.map_or_else(|| result(AclError::InvalidHandle.status()), found)
}

fn acl_entry(input: Elements<'_, '_>) -> Result<AclEntry, AclError> {
    let invalid = AclError::InvalidParameter;
    let user = input.text("DigestUsername").ok_or(invalid)?;
    let mut ha1 = [0; 16];
    let decoded = Base64::decode(&mut ha1, input.text("DigestPassword").ok_or(invalid)?, None)
        .map_err(|_| invalid)?;
    if decoded.len() != 16 {
        return Err(invalid);
    }
    let access = input
        .text("AccessPermission")
        .and_then(|text| text.parse().ok());
    let realms: Option<Vec<u32>> = input
        .all("Realms")
        .map(|node| text_of(node).parse().ok())
        .collect();
    Ok(AclEntry {
        user: user.into(),
        ha1: Ha1::from_bytes(ha1),
        realms: realms.and_then(Realms::from_numbers).ok_or(invalid)?,
        access: access
            .and_then(AccessPermission::from_code)
            .ok_or(invalid)?,
    })
}
