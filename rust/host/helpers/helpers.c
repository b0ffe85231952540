// SPDX-License-Identifier: GPL-2.0
/*
 * Linux's inline functions and macros as plain functions, since Rust can call neither. What decides something is written in
 * Rust. bindgen reads this file for their prototypes, so that there is no header. Sorted alphabetically.
 */
#include <linux/anon_inodes.h>
#include <asm/neon.h>

#include "context_tracking.c"
#include "cpu.c"
#include "cpufeature.c"
#include "daifflags.c"
#include "entry_virt.c"
#include "eventfd.c"
#include "irq.c"
#include "irqflags.c"
#include "memory_failure.c"
#include "mmap_lock.c"
#include "mmu_notifier.c"
#include "mutex.c"
#include "of.c"
#include "page.c"
#include "percpu.c"
#include "perf.c"
#include "pgtable.c"
#include "preempt.c"
#include "rcu.c"
#include "rcuwait.c"
#include "rwlock.c"
#include "sched.c"
#include "spinlock.c"
#include "trace.c"
#include "uaccess.c"
