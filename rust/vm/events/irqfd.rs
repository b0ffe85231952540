// SPDX-License-Identifier: GPL-2.0

//! irqfds: eventfds that raise interrupts.
//!
//! An eventfd is signalled by anybody: another process, a device's interrupt, an ioeventfd of this
//! VM or another one. The interrupt is raised right there ([`Irqfd::signalled`]), in whatever
//! context that is.
//!
//! An irqfd ends in three ways. Userspace deassigns it, or the VM's file is closed: then it is
//! unhooked at once, which waits for a signal that is being delivered. Or the eventfd's last file
//! is closed: that is noticed where nothing may sleep, so it is only marked, and the reaper takes
//! it away soon.
//!
//! An irqfd refers to its VM, which refers to its irqfds. Closing the VM's file breaks that circle:
//! only an ioctl on that file makes irqfds, so there are none before it is opened and after it is
//! closed.

use super::routing::{Route, Routing};
use crate::host::eventfd::{flush, EventFd, EventFile, EventfdHook, Listener};
use crate::host::raw_spinlock::RawSpinLock;
use crate::model::vgic::Line;
use crate::vm::its::Msi;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};
use kernel::sync::{new_mutex, static_lock_class, Arc, Mutex};
use kernel::workqueue::{self, impl_has_work, new_work, Work, WorkItem};

/// Where an irqfd's interrupts go: the VM, which has the irqfds.
pub(crate) trait InterruptSink: Sized + Send + Sync + 'static {
    /// Returns the VM's irqfds.
    fn irqfds(&self) -> &Arc<Irqfds<Self>>;

    /// Returns whether there is an initialised interrupt controller.
    fn is_ready(&self) -> bool;

    /// Sets the level of a line, or raises an edge. In any context.
    fn set_level(&self, line: Line, high: bool);

    /// Delivers a message. In any context.
    fn signal(&self, msi: Msi);

    /// Has the end of an interrupt reported at once, or no longer.
    fn notify_eoi(&self, line: Line, notify: bool);
}

/// What an eventfd raises.
#[pin_data]
struct Irqfd<V: InterruptSink> {
    vm: Arc<V>,
    gsi: u32,
    /// Where the GSI leads. Held while the interrupt is raised, so that a new routing is in force
    /// once it is set.
    #[pin]
    route: RawSpinLock<Option<Route>>,
    /// Signalled when the guest has handled the interrupt.
    resample: Option<EventFd>,
    /// The eventfd has been closed.
    closed: Atomic<bool>,
}

impl<V: InterruptSink> Irqfd<V> {
    fn line(&self) -> Option<Line> {
        self.route.lock().and_then(Route::line)
    }

    /// Returns the line, if it is this irqfd that lowers it.
    fn resampled_line(&self) -> Option<Line> {
        self.line().filter(|_| self.resample.is_some())
    }
}

impl<V: InterruptSink> Listener for Irqfd<V> {
    /// Raises the interrupt. A level-sensitive one without resampling is userspace's to lower, as
    /// with KVM.
    fn signalled(&self) {
        let route = self.route.lock();
        match *route {
            Some(Route::Spi(line)) => self.vm.set_level(line, true),
            Some(Route::Msi(msi)) => self.vm.signal(msi),
            None => {}
        }
    }

    fn closed(&self) {
        self.closed.store(true, Release);
        // If it is queued already, it has not run yet. (Not `system()`: that queue is deprecated,
        // and says so in the log.)
        let _ = workqueue::system_long().enqueue::<_, 0>(self.vm.irqfds().clone());
    }
}

type Hooked<V> = Pin<KBox<EventfdHook<Irqfd<V>>>>;

struct IrqfdState<V: InterruptSink> {
    /// As many as there are eventfds: more than one allocation of physically contiguous memory can
    /// hold.
    all: KVVec<Hooked<V>>,
    routing: Routing,
}

/// A VM's irqfds.
#[pin_data]
pub(crate) struct Irqfds<V: InterruptSink> {
    #[pin]
    state: Mutex<IrqfdState<V>>,
    /// Some irqfd is resampled. Changed with `state` locked, read to do without.
    resampling: Atomic<bool>,
    #[pin]
    reaper: Work<Irqfds<V>>,
}

impl_has_work! {
    impl{V: InterruptSink} HasWork<Self> for Irqfds<V> { self.reaper }
}

impl<V: InterruptSink> WorkItem for Irqfds<V> {
    type Pointer = Arc<Self>;

    /// Takes away the irqfds whose eventfds have been closed.
    fn run(this: Arc<Self>) {
        this.remove(|one| one.listener().closed.load(Acquire));
    }
}

impl<V: InterruptSink> Irqfds<V> {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_mutex!(IrqfdState { all: KVVec::new(), routing: Routing::Default }, "loft::Irqfds::state"),
                resampling: Atomic::new(false),
                reaper <- new_work!("loft::Irqfds::reaper"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Adds an irqfd: see [`super::Events::assign_irqfd`].
    pub(super) fn assign(&self, vm: &Arc<V>, fd: u32, gsi: u32, resample: Option<i32>) -> Result {
        if !vm.is_ready() {
            return Err(EAGAIN);
        }
        let file = EventFile::get(fd)?;
        let resample = resample.map(EventFd::get).transpose()?;
        let mut state = self.state.lock();
        state.all.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let route = state.routing.route(gsi);
        // Before it is hooked: from then on it may be raised, and handled, at any time.
        let line = route.and_then(Route::line).filter(|_| resample.is_some());
        self.resampling
            .store(self.resampling.load(Relaxed) || resample.is_some(), Relaxed);
        if let Some(line) = line {
            vm.notify_eoi(line, true);
        }
        let irqfd = pin_init!(Irqfd {
            vm: vm.clone(),
            gsi,
            route <- RawSpinLock::new(route, c"loft::Irqfd::route", static_lock_class!()),
            resample,
            closed: Atomic::new(false),
        });
        let (hooked, signalled) =
            EventfdHook::new(file, irqfd).inspect_err(|_| self.left(vm, &state, line))?;
        let irqfd = hooked.listener();
        if signalled {
            irqfd.signalled();
            if let (None, Some(line)) = (&irqfd.resample, irqfd.line()) {
                // As KVM does for what came before: an edge.
                vm.set_level(line, false);
            }
        }
        state.all.push(hooked, GFP_KERNEL_ACCOUNT)?;
        Ok(())
    }

    /// Takes an irqfd away: see [`super::Events::deassign_irqfd`].
    pub(super) fn deassign(&self, event: &EventFd, gsi: u32) {
        self.remove(|one| one.is_of(event) && one.listener().gsi == gsi);
    }

    /// Takes all irqfds away: see [`super::Events::close`].
    pub(super) fn close(&self) {
        self.remove(|_| true);
        // Nobody queues it any more: that was done under the lock of an eventfd that was watched.
        flush(&self.reaper);
    }

    /// Unhooks the irqfds that `gone` picks, and lowers the lines that nobody resamples any more.
    fn remove(&self, gone: impl Fn(&EventfdHook<Irqfd<V>>) -> bool) {
        let mut state = self.state.lock();
        let mut index = 0;
        while let Some(one) = state.all.get(index) {
            if !gone(one) {
                index += 1;
                continue;
            }
            let vm = one.listener().vm.clone();
            let line = one.listener().resampled_line();
            drop(state.all.remove(index));
            self.left(&vm, &state, line);
            if let Some(line) = line.filter(|&line| !state.resamples(line)) {
                vm.set_level(line, false);
            }
        }
    }

    /// Notes that an irqfd that resampled `line`, if any, is gone, or did not come.
    fn left(&self, vm: &V, state: &IrqfdState<V>, line: Option<Line>) {
        if let Some(line) = line.filter(|&line| !state.resamples(line)) {
            vm.notify_eoi(line, false);
        }
        self.resampling.store(
            state
                .all
                .iter()
                .any(|one| one.listener().resample.is_some()),
            Relaxed,
        );
    }

    /// Sets the routing: see [`super::Events::set_routing`].
    pub(super) fn set_routing(&self, routing: Routing) {
        let mut state = self.state.lock();
        state.routing = routing;
        for one in &state.all {
            let irqfd = one.listener();
            let old = irqfd.resampled_line();
            *irqfd.route.lock() = state.routing.route(irqfd.gsi);
            let new = irqfd.resampled_line();
            if old == new {
                continue;
            }
            // The last one to leave a line, or the first to come to it, settles who watches.
            if let Some(line) = old.filter(|&line| !state.resamples(line)) {
                irqfd.vm.notify_eoi(line, false);
            }
            if let Some(line) = new {
                irqfd.vm.notify_eoi(line, true);
            }
        }
    }

    /// Tells the resamplers of these SPIs: see [`super::Events::deactivated`]. All lines go down
    /// before anybody is told: whoever raises one again for its device does so after that.
    pub(super) fn deactivated(&self, vm: &V, spis: &[u64; 16]) {
        // What has been deactivated was raised before, with the interrupt controller locked: if an
        // irqfd did it, that is seen here.
        if !self.resampling.load(Relaxed) {
            return;
        }
        let among = |line: Line| {
            let id = line.id().index();
            spis.get(id / 64)
                .is_some_and(|word| word >> (id % 64) & 1 != 0)
        };
        let state = self.state.lock();
        let resampled = || {
            state
                .all
                .iter()
                .map(|one| one.listener())
                .filter(|one| one.resampled_line().is_some_and(among))
        };
        for irqfd in resampled() {
            if let Some(line) = irqfd.line() {
                vm.set_level(line, false);
            }
        }
        for event in resampled().filter_map(|irqfd| irqfd.resample.as_ref()) {
            event.signal();
        }
    }
}

impl<V: InterruptSink> IrqfdState<V> {
    /// Returns whether an irqfd resamples this line.
    fn resamples(&self, line: Line) -> bool {
        self.all
            .iter()
            .any(|one| one.listener().resampled_line() == Some(line))
    }
}
