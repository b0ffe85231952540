// SPDX-License-Identifier: GPL-2.0
//! System registers: encodings and fields ([`regs`], generated), what a guest and its VMM see of
//! each ([`table`]), and the values of the identification registers ([`idregs`]).

pub mod cache;
pub mod context;
mod gen;
pub mod id_rules;
pub mod idregs;
mod rows;
pub mod table;

#[allow(unused_imports)]
// What is in the CPU is made from it, which the models' own tests are without.
pub(crate) use context::context_registers;
pub use context::Reg;
pub use gen::regs;
pub use idregs::{IdReg, IdRegs};
pub use rows::TABLE;
pub use table::{lookup, Row};

/// The name of a system register (or system instruction): op0, op1, CRn, CRm and op2, packed as in
/// the low 16 bits of KVM's ONE_REG identifier. The order of the packed values is the order of the
/// five numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Encoding(u16);

impl Encoding {
    /// Returns the encoding of the register `S<op0>_<op1>_C<crn>_C<crm>_<op2>`. Each number is cut
    /// to its width.
    pub const fn new(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> Self {
        Self(
            ((op0 as u16 & 3) << 14)
                | ((op1 as u16 & 7) << 11)
                | ((crn as u16 & 15) << 7)
                | ((crm as u16 & 15) << 3)
                | op2 as u16 & 7,
        )
    }

    /// Returns the encoding whose packed form is `bits`; every value is one.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns the packed form.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns op0: 1 for system instructions, 2 for debug, 3 for the other registers.
    pub const fn op0(self) -> u8 {
        (self.0 >> 14) as u8
    }

    /// Returns op1.
    pub const fn op1(self) -> u8 {
        ((self.0 >> 11) & 7) as u8
    }

    /// Returns CRn.
    pub const fn crn(self) -> u8 {
        ((self.0 >> 7) & 15) as u8
    }

    /// Returns CRm.
    pub const fn crm(self) -> u8 {
        ((self.0 >> 3) & 15) as u8
    }

    /// Returns op2.
    pub const fn op2(self) -> u8 {
        (self.0 & 7) as u8
    }

    /// Returns the number that Linux's `sys_reg()` makes of this encoding: the argument of
    /// `read_sanitised_ftr_reg`.
    pub const fn linux(self) -> u32 {
        ((self.op0() as u32) << 19)
            | ((self.op1() as u32) << 16)
            | ((self.crn() as u32) << 12)
            | ((self.crm() as u32) << 8)
            | ((self.op2() as u32) << 5)
    }

    /// Returns whether this lies in the Feature ID space (DDI 0487, D24.1.2): op0 3, op1 0, 1 or 3,
    /// CRn 0, CRm 0-7.
    pub const fn is_feature_id(self) -> bool {
        self.op0() == 3 && matches!(self.op1(), 0 | 1 | 3) && self.crn() == 0 && self.crm() <= 7
    }
}

/// A field of a 64-bit register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    shift: u8,
    width: u8,
    signed: bool,
}

impl Field {
    /// Makes the field of `width` bits (1-64) whose lowest bit is `shift` (0-63).
    pub const fn new(shift: u8, width: u8) -> Self {
        assert!(
            width > 0 && shift < 64 && width <= 64 - shift,
            "a field must lie within its register"
        );
        Self {
            shift,
            width,
            signed: false,
        }
    }

    /// Makes a field as [`Self::new`] does, but one whose value is a two's complement number.
    pub const fn signed(shift: u8, width: u8) -> Self {
        let field = Self::new(shift, width);
        Self {
            signed: true,
            ..field
        }
    }

    /// Returns the number of its lowest bit.
    pub const fn shift(self) -> u32 {
        self.shift as u32
    }

    /// Returns how many bits it has.
    pub const fn width(self) -> u32 {
        self.width as u32
    }

    /// Returns whether [`Self::number`] extends the sign.
    pub const fn is_signed(self) -> bool {
        self.signed
    }

    /// Returns ones where the field is.
    pub const fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.width())) << self.shift()
    }

    /// Returns the field's bits in `register`, moved to bit 0.
    pub const fn get(self, register: u64) -> u64 {
        (register & self.mask()) >> self.shift()
    }

    /// Returns the field as a number: sign-extended where the field is signed.
    pub const fn number(self, register: u64) -> i64 {
        let top = 64 - self.width();
        let left = (self.get(register) << top) as i64;
        if self.signed {
            left >> top
        } else {
            (left as u64 >> top) as i64
        }
    }

    /// Returns whether any of its bits is set in `register`.
    pub const fn is_set(self, register: u64) -> bool {
        register & self.mask() != 0
    }

    /// Returns `value` moved to the field's place, cut to its width.
    pub const fn of(self, value: u64) -> u64 {
        (value << self.shift()) & self.mask()
    }

    /// Returns `register` with the field replaced by `value`, which is cut to the field's width.
    pub const fn with(self, register: u64, value: u64) -> u64 {
        register & !self.mask() | self.of(value)
    }
}
