//! Which kernel parameters does the machine itself call for, whatever the image?

use std::arch::x86_64::__cpuid;

/// First leaf of what a hypervisor says of itself; its signature is in EBX, ECX and EDX.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;

/// Parameters for any kernel started on this machine; empty on hardware.
///
/// While a kernel sets up its interrupt controllers, it counts timer ticks for a few hundredths of
/// a second and panics when too few arrive. Under QEMU's software emulation that depends on how
/// busy the host is. The kernel leaves the check out by itself on hypervisors that it knows (KVM,
/// Hyper-V, VMware; `no_timer_check` in arch/x86), and this one it does not know.
pub fn machine_parameters() -> &'static str {
    parameters_for(hypervisor())
}

fn parameters_for(hypervisor: [u8; 12]) -> &'static str {
    match &hypervisor {
        b"TCGTCGTCGTCG" => "no_timer_check",
        _ => "",
    }
}

/// The signature. On hardware the leaf means nothing, and neither does the answer.
fn hypervisor() -> [u8; 12] {
    let said = __cpuid(HYPERVISOR_LEAF);
    let mut signature = [0; 12];
    for (part, register) in signature
        .chunks_exact_mut(4)
        .zip([said.ebx, said.ecx, said.edx])
    {
        part.copy_from_slice(&register.to_le_bytes());
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_software_emulation_calls_for_a_parameter() {
        assert_eq!(parameters_for(*b"TCGTCGTCGTCG"), "no_timer_check");
        assert_eq!(parameters_for(*b"KVMKVMKVM\0\0\0"), "");
        assert_eq!(parameters_for([0; 12]), "");
    }
}
