// SPDX-License-Identifier: GPL-2.0
//! The firmware that a VM sees, and the pseudo registers with which userspace chooses it
//! (KVM_REG_ARM_FW, KVM_REG_ARM_FW_FEAT_BMAP; Documentation/virt/kvm/arm/fw-pseudo-registers.rst).

use super::NOT_SUPPORTED;
use crate::model::psci;

/// How the host stands to a speculation flaw.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mitigation {
    /// Affected, and nothing done about it.
    Vulnerable,
    /// Affected, and mitigated.
    Mitigated,
    /// Not affected.
    Unaffected,
}

impl Mitigation {
    /// Returns what ARCH_FEATURES says of ARCH_WORKAROUND_1 and 3.
    #[inline(always)]
    pub(super) const fn answer(self) -> u64 {
        match self {
            Self::Vulnerable => NOT_SUPPORTED,
            Self::Mitigated => 0,
            Self::Unaffected => 1,
        }
    }

    /// Returns its level in the pseudo registers of ARCH_WORKAROUND_1 and 3.
    const fn level(self) -> u64 {
        match self {
            Self::Vulnerable => 0,
            Self::Mitigated => 1,
            Self::Unaffected => 2,
        }
    }
}

/// Which optional hypercalls a VM has; one bit per service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bitmaps {
    /// KVM_REG_ARM_STD_BMAP.
    pub std: u64,
    /// KVM_REG_ARM_STD_HYP_BMAP.
    pub std_hyp: u64,
    /// KVM_REG_ARM_VENDOR_HYP_BMAP.
    pub vendor_hyp: u64,
    /// KVM_REG_ARM_VENDOR_HYP_BMAP_2.
    pub vendor_hyp_2: u64,
}

impl Bitmaps {
    /// In `std`: random numbers.
    pub const TRNG: u64 = 1 << 0;
    /// In `std_hyp`: stolen time.
    pub const PV_TIME: u64 = 1 << 0;
    /// In `vendor_hyp`: the identity and the feature bits.
    pub const FUNC_FEAT: u64 = 1 << 0;
    /// In `vendor_hyp`: precision time.
    pub const PTP: u64 = 1 << 1;
    /// In `vendor_hyp_2`: what the VMM found out about the hosts that the VM may migrate to. The
    /// VMM answers.
    pub const DISCOVER_IMPL: u64 = 0b11;

    /// A new VM's.
    pub const NEW: Self = Self {
        std: Self::TRNG,
        std_hyp: Self::PV_TIME,
        vendor_hyp: Self::FUNC_FEAT | Self::PTP,
        vendor_hyp_2: 0,
    };
}

/// A pseudo register. The order is that of GET_REG_LIST.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FwReg {
    /// The PSCI version.
    PsciVersion,
    /// Spectre variant 2.
    Workaround1,
    /// Spectre variant 4.
    Workaround2,
    /// Spectre-BHB.
    Workaround3,
    /// Standard secure services.
    StdBitmap,
    /// Standard hypervisor services.
    StdHypBitmap,
    /// Vendor hypervisor services 0-63.
    VendorHypBitmap,
    /// Vendor hypervisor services 64-127.
    VendorHypBitmap2,
}

impl FwReg {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::PsciVersion,
        Self::Workaround1,
        Self::Workaround2,
        Self::Workaround3,
        Self::StdBitmap,
        Self::StdHypBitmap,
        Self::VendorHypBitmap,
        Self::VendorHypBitmap2,
    ];
}

/// Why a pseudo register cannot be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FwError {
    /// -EINVAL.
    Invalid,
    /// -EBUSY: the VM has run.
    Busy,
}

/// A VM's firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// Power control.
    pub psci: psci::PsciConfig,
    /// Optional services.
    pub bitmaps: Bitmaps,
    /// The host's state, for ARCH_WORKAROUND_1.
    pub spectre_v2: Mitigation,
    /// The host's state, for ARCH_WORKAROUND_2.
    pub spectre_v4: Mitigation,
    /// The host's state, for ARCH_WORKAROUND_3.
    pub spectre_bhb: Mitigation,
    /// The machine's firmware has that call as well. Else there is nothing left to do for it: the
    /// way out of the guest does.
    pub bhb_by_firmware: bool,
    /// The guest has SSBS, as its own identification registers say: it mitigates variant 4 by
    /// itself.
    pub ssbs: bool,
}

/// The bits of a workaround's level; bit 4 is "enabled", for variant 4 only.
const LEVEL: u64 = 0xf;
const ENABLED: u64 = 1 << 4;

impl Firmware {
    /// Returns what ARCH_FEATURES says of ARCH_WORKAROUND_2: no firmware call where the guest has
    /// SSBS or where nothing helps, else "not required" (-2), because a mitigated host protects a
    /// guest without SSBS all the time.
    #[inline(always)]
    pub(super) const fn workaround_2(&self) -> u64 {
        match self.spectre_v4 {
            Mitigation::Vulnerable => NOT_SUPPORTED,
            Mitigation::Mitigated if self.ssbs => NOT_SUPPORTED,
            Mitigation::Mitigated | Mitigation::Unaffected => -2i64 as u64,
        }
    }

    /// Returns variant 4's level: 0 not available, 3 not required.
    const fn level_2(&self) -> u64 {
        if self.workaround_2() == NOT_SUPPORTED {
            0
        } else {
            3
        }
    }

    /// Returns the register's value.
    pub const fn get(&self, reg: FwReg) -> u64 {
        match reg {
            FwReg::PsciVersion => self.psci.version.bits() as u64,
            FwReg::Workaround1 => self.spectre_v2.level(),
            FwReg::Workaround2 => self.level_2(),
            FwReg::Workaround3 => self.spectre_bhb.level(),
            FwReg::StdBitmap => self.bitmaps.std,
            FwReg::StdHypBitmap => self.bitmaps.std_hyp,
            FwReg::VendorHypBitmap => self.bitmaps.vendor_hyp,
            FwReg::VendorHypBitmap2 => self.bitmaps.vendor_hyp_2,
        }
    }

    /// Sets a register for userspace. `psci_0_2`: the vCPU was made with KVM_ARM_VCPU_PSCI_0_2;
    /// `ran`: the VM has run. A workaround takes any level up to the host's and keeps the host's.
    pub fn set(
        &mut self,
        reg: FwReg,
        value: u64,
        psci_0_2: bool,
        ran: bool,
    ) -> Result<(), FwError> {
        let (slot, all) = match reg {
            FwReg::PsciVersion => {
                let version = psci::Version::from_bits(value).ok_or(FwError::Invalid)?;
                if (version == psci::Version::V0_1) == psci_0_2 {
                    return Err(FwError::Invalid);
                }
                self.psci.version = version;
                return Ok(());
            }
            FwReg::Workaround1 | FwReg::Workaround3 => return up_to(value, self.get(reg)),
            FwReg::Workaround2 => {
                let level = match value {
                    0 | 1 => 0,
                    // Available, whether enabled or not, is taken for not required.
                    2 | 3 => 3,
                    _ if value == 2 | ENABLED => 3,
                    _ => return Err(FwError::Invalid),
                };
                return up_to(level, self.get(reg));
            }
            FwReg::StdBitmap => (&mut self.bitmaps.std, Bitmaps::TRNG),
            FwReg::StdHypBitmap => (&mut self.bitmaps.std_hyp, Bitmaps::PV_TIME),
            FwReg::VendorHypBitmap => (
                &mut self.bitmaps.vendor_hyp,
                Bitmaps::FUNC_FEAT | Bitmaps::PTP,
            ),
            FwReg::VendorHypBitmap2 => (&mut self.bitmaps.vendor_hyp_2, Bitmaps::DISCOVER_IMPL),
        };
        if value & !all != 0 {
            return Err(FwError::Invalid);
        }
        if ran && value != *slot {
            return Err(FwError::Busy);
        }
        *slot = value;
        Ok(())
    }
}

const fn up_to(level: u64, most: u64) -> Result<(), FwError> {
    if level & !LEVEL != 0 || level > most {
        Err(FwError::Invalid)
    } else {
        Ok(())
    }
}
