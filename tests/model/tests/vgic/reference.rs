// SPDX-License-Identifier: GPL-2.0

//! What the interrupt controller has to do, in the plainest form: one struct per interrupt, and a scan of all of them
//! for each question.

/// One interrupt.
#[derive(Clone, Debug)]
pub struct RefIrq {
    pub intid: u32,
    /// The vCPU that it belongs to, for private ones.
    pub bank: Option<usize>,
    pub enabled: bool,
    pub group1: bool,
    pub edge: bool,
    pub line: bool,
    pub latch: bool,
    pub priority: u8,
    pub target: Option<usize>,
    pub active: bool,
    /// A level that fell, or an edge-to-level change, while a running vCPU had it pending in a list register: it may
    /// come once more from there.
    pub ghost: bool,
}

impl RefIrq {
    pub fn pending(&self) -> bool {
        self.latch || !self.edge && self.line
    }
}

pub struct Reference {
    pub irqs: Vec<RefIrq>,
    /// GICD_CTLR.EnableGrp0 and 1.
    pub groups: [bool; 2],
}

impl Reference {
    /// The state that [`super::machine::Machine::new`] sets up.
    pub fn new(cpus: usize, spis: std::ops::Range<u32>) -> Self {
        let fresh = |intid: u32, bank: Option<usize>| RefIrq {
            intid,
            bank,
            enabled: true,
            group1: true,
            edge: intid < 16,
            line: false,
            latch: false,
            priority: 0x80,
            target: bank.or(Some(0)),
            active: false,
            ghost: false,
        };
        let private = (0..cpus).flat_map(|cpu| (0..32).map(move |n| (n, Some(cpu))));
        let shared = spis.map(|n| (n, None));
        Self {
            irqs: private.chain(shared).map(|(n, b)| fresh(n, b)).collect(),
            groups: [true; 2],
        }
    }

    /// Adds LPIs, which go to vCPU 0 and are enabled with priority 0x80.
    pub fn add_lpis(&mut self, lpis: std::ops::Range<u32>) {
        self.irqs.extend(lpis.map(|intid| RefIrq {
            intid,
            bank: None,
            enabled: true,
            group1: true,
            edge: true,
            line: false,
            latch: false,
            priority: 0x80,
            target: Some(0),
            active: false,
            ghost: false,
        }));
    }

    /// What `cpu` means by this number.
    pub fn irq(&mut self, cpu: usize, intid: u32) -> &mut RefIrq {
        self.irqs
            .iter_mut()
            .find(|irq| irq.intid == intid && irq.bank.is_none_or(|bank| bank == cpu))
            .unwrap()
    }

    /// Those that the distributor forwards to `cpu`.
    pub fn forwarded(&self, cpu: usize) -> impl Iterator<Item = &RefIrq> {
        let groups = self.groups;
        self.irqs.iter().filter(move |irq| {
            irq.target == Some(cpu)
                && irq.enabled
                && irq.pending()
                && !irq.active
                && groups[usize::from(irq.group1)]
        })
    }
}
