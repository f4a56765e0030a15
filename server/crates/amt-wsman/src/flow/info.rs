//! Everything that can be learned about a PC without changing it.
//!
//! Rights and firmware differ, so each part may be missing; only a device that does not answer at all is an error.

use serde::Serialize;

use super::consent;
use super::{Observer, Step};
use crate::class::boot::BootCapabilities;
use crate::class::consent::{ConsentPolicy, ConsentState};
use crate::class::inventory::{
    Bios, Disk, FirmwarePart, MemoryModule, NetworkPort, Processor, Product, uuid_of,
};
use crate::class::power::{AssociatedPower, PowerState};
use crate::class::redirection::{KvmRedirection, RedirectionService};
use crate::class::setup::{ControlMode, GeneralSettings, Provisioning, Setup};
use crate::class::{
    BIOS_ELEMENT, CARD, CHASSIS, CHIP, COMPUTER_SYSTEM_PACKAGE, ETHERNET_PORT_SETTINGS,
    MEDIA_ACCESS_DEVICE, PHYSICAL_MEMORY, PROCESSOR, SOFTWARE_IDENTITY,
};
use crate::device::{Device, Error};
use crate::firmware::Version;
use crate::names::Class;
use crate::reply::Element;
use crate::transport::Transport;

/// What a PC is and can, as far as it tells.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Info {
    /// Version of AMT.
    pub version: Option<Version>,
    /// Names.
    pub names: Option<GeneralSettings>,
    /// SMBIOS UUID, as operating systems print it. Not unique on all machines.
    pub uuid: Option<String>,
    /// Power state.
    pub power: Option<PowerState>,
    /// Control mode.
    pub control_mode: Option<ControlMode>,
    /// Provisioning.
    pub provisioning: Option<Provisioning>,
    /// What redirection is on.
    pub redirection: Option<Redirection>,
    /// Consent.
    pub consent: Option<Consent>,
    /// Capabilities of booting, by Intel's names.
    pub boot_capabilities: Option<Vec<String>>,
    /// Hardware.
    pub hardware: Hardware,
    /// Network ports.
    pub network: Vec<NetworkPort>,
    /// Parts of AMT's firmware.
    pub firmware: Vec<FirmwarePart>,
    /// What the account may not read.
    pub denied: Vec<String>,
}

/// Which redirection is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Redirection {
    /// Storage redirection.
    pub storage: bool,
    /// Serial over LAN.
    pub serial: bool,
    /// The ports listen.
    pub listener: bool,
    /// KVM; `None` on firmware without it.
    pub kvm: Option<bool>,
}

/// Consent, policy and state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Consent {
    /// What needs it.
    pub policy: ConsentPolicy,
    /// How far it is.
    pub state: ConsentState,
}

/// What the PC is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Hardware {
    /// The PC as a product.
    pub system: Option<Product>,
    /// Its mainboard.
    pub board: Option<Product>,
    /// Its BIOS.
    pub bios: Option<Bios>,
    /// Processors.
    pub processors: Vec<Processor>,
    /// Memory modules.
    pub memory: Vec<MemoryModule>,
    /// Disks and drives.
    pub disks: Vec<Disk>,
}

/// Reads everything.
///
/// # Errors
///
/// When the device does not answer, or not with what it should.
pub async fn info<T: Transport>(
    device: &mut Device<T>,
    observer: &mut Observer<'_>,
) -> Result<Info, Error> {
    let mut info = Info::default();
    observer(Step::ReadPower);
    let power = device.read::<AssociatedPower>().await;
    info.power = info.keep(power)?.map(|power| power.state);
    observer(Step::ReadConsent);
    let setup = device.read::<Setup>().await;
    if let Some(setup) = info.keep(setup)? {
        info.control_mode = Some(setup.mode);
        info.provisioning = Some(setup.provisioning);
    }
    let status = consent::status(device).await;
    let opt_in = info.keep(status)?.and_then(|status| status.opt_in);
    info.consent = opt_in.map(|opt_in| Consent {
        policy: opt_in.policy,
        state: opt_in.state,
    });
    observer(Step::ReadRedirection);
    let service = device.read::<RedirectionService>().await;
    let kvm = device.read::<KvmRedirection>().await;
    let kvm = info.keep(kvm)?.map(|kvm| kvm.enabled);
    info.redirection = info.keep(service)?.map(|service| Redirection {
        storage: service.storage,
        serial: service.serial,
        listener: service.listener,
        kvm,
    });
    observer(Step::ReadCapabilities);
    let capabilities = device.read::<BootCapabilities>().await;
    let capabilities = info.keep(capabilities)?;
    info.boot_capabilities = capabilities.map(|capabilities| capabilities.names().to_vec());
    observer(Step::ReadInventory);
    let names = device.read::<GeneralSettings>().await;
    info.names = info.keep(names)?;
    info.hardware(device).await?;
    let ports = info.list(device, ETHERNET_PORT_SETTINGS).await?;
    info.network = ports.iter().map(NetworkPort::of).collect();
    let firmware = info.list(device, SOFTWARE_IDENTITY).await?;
    info.firmware = firmware.iter().filter_map(FirmwarePart::of).collect();
    let told = info.firmware.iter().find(|part| part.name == "AMT");
    info.version = device
        .version()
        .or_else(|| told.and_then(|part| part.version.parse().ok()));
    Ok(info)
}

impl Info {
    async fn hardware<T: Transport>(&mut self, device: &mut Device<T>) -> Result<(), Error> {
        let chassis = self.get(device, CHASSIS).await?;
        self.hardware.system = chassis.as_ref().map(Product::of);
        let card = self.get(device, CARD).await?;
        self.hardware.board = card.as_ref().map(Product::of);
        let bios = self.get(device, BIOS_ELEMENT).await?;
        self.hardware.bios = bios.as_ref().map(Bios::of);
        let package = self.get(device, COMPUTER_SYSTEM_PACKAGE).await?;
        let guid = package
            .as_ref()
            .and_then(|package| package.text("PlatformGUID"));
        self.uuid = guid.and_then(uuid_of);
        let processors = self.list(device, PROCESSOR).await?;
        // Memory modules are chips as well, by class.
        let chips = self.list(device, CHIP).await?;
        let chips: Vec<_> = chips
            .into_iter()
            .filter(|chip| chip.name == CHIP.name())
            .collect();
        let processors = processors.iter().enumerate();
        self.hardware.processors = processors
            .map(|(index, processor)| {
                let id = processor.text("DeviceID");
                let by_tag = chips
                    .iter()
                    .find(|chip| id.is_some() && chip.text("Tag") == id);
                Processor::of(processor, by_tag.or(chips.get(index)))
            })
            .collect();
        let memory = self.list(device, PHYSICAL_MEMORY).await?;
        self.hardware.memory = memory.iter().map(MemoryModule::of).collect();
        let disks = self.list(device, MEDIA_ACCESS_DEVICE).await?;
        self.hardware.disks = disks.iter().map(Disk::of).collect();
        Ok(())
    }

    async fn get<T: Transport>(
        &mut self,
        device: &mut Device<T>,
        class: Class,
    ) -> Result<Option<Element>, Error> {
        let result = device.get(class.into()).await;
        self.keep(result)
    }

    async fn list<T: Transport>(
        &mut self,
        device: &mut Device<T>,
        class: Class,
    ) -> Result<Vec<Element>, Error> {
        let result = device.enumerate(class).await;
        Ok(self.keep(result)?.unwrap_or_default())
    }

    /// A part that the device has and lets be read; only silence and nonsense end the whole.
    fn keep<V>(&mut self, result: Result<V, Error>) -> Result<Option<V>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_denied() => {
                self.denied.push(error.call.to_string());
                Ok(None)
            }
            Err(error) if error.fault().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
