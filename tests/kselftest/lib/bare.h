/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The least that makes a guest: one VM, one vCPU, 64 KiB of anonymous memory, MMU off, no interrupt controller.
 * For tests that must work before anything else does; all others use vm.h.
 */
#ifndef BARE_H
#define BARE_H

#include <linux/kvm.h>

#include "ktap.h"

#define BARE_RAM 0x40000000UL
#define BARE_RAM_SIZE 0x10000UL
#define BARE_MMIO 0x09000000UL /* backed by nothing: every access exits */

#define CORE_REG(NAME)                                                                                          \
	(KVM_REG_ARM64 | KVM_REG_ARM_CORE | (sizeof(((struct kvm_regs *)0)->NAME) == 16 ? KVM_REG_SIZE_U128 : KVM_REG_SIZE_U64) | \
	 (offsetof(struct kvm_regs, NAME) / sizeof(u32)))

struct bare {
	int system, vm, vcpu;
	struct kvm_run *run;
	u8 *ram;
};

/* Makes the guest, copies [start, end) to BARE_RAM and points the vCPU there. Fails the case where a step fails. */
void bare_create(struct bare *b, const void *start, const void *end);

#endif
