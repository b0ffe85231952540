/* SPDX-License-Identifier: GPL-2.0 */
/* The host side of an ITS and of messages. */
#ifndef MSI_H
#define MSI_H

#include "its.h"
#include "vm.h"

/* An ITS at `base`, or without an address where that is 0. Skips the case where there is none. */
int its_create(struct vm *vm, u64 base);
/* KVM_SIGNAL_MSI to the ITS at GUEST_ITS; what ioctl did. */
int msi(struct vm *vm, u32 device, u32 event);

#endif
