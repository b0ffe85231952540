/* SPDX-License-Identifier: GPL-2.0 */
/* PSCI (Arm DEN0022) for guests, by HVC. */
#ifndef GUEST_PSCI_H
#define GUEST_PSCI_H

#include "guest.h"

#define PSCI_GET_VERSION 0x84000000
#define PSCI_CPU_SUSPEND 0xc4000001
#define PSCI_CPU_OFF 0x84000002
#define PSCI_CPU_ON 0xc4000003
#define PSCI_AFFINITY_INFO 0xc4000004
#define PSCI_MIGRATE_INFO_TYPE 0x84000006
#define PSCI_SYSTEM_OFF 0x84000008
#define PSCI_SYSTEM_RESET 0x84000009
#define PSCI_FEATURES 0x8400000a
#define PSCI_SYSTEM_SUSPEND 0xc400000e
#define PSCI_SYSTEM_OFF2 0xc4000015
#define PSCI_SYSTEM_RESET2 0xc4000012

#define PSCI_SUCCESS 0
#define PSCI_NOT_SUPPORTED -1
#define PSCI_INVALID_PARAMETERS -2
#define PSCI_DENIED -3
#define PSCI_ALREADY_ON -4
#define PSCI_ON_PENDING -5
#define PSCI_INTERNAL_FAILURE -6
#define PSCI_INVALID_ADDRESS -9

static inline s64 psci(u64 fn, u64 a1, u64 a2, u64 a3)
{
	return (s64)guest_hvc(fn, a1, a2, a3).x0;
}

/* Starts the vCPU whose affinity is mpidr, at guest_boot with its own struct guest_cpu. */
static inline s64 psci_cpu_on(u64 mpidr, struct guest_cpu *cpu)
{
	dsb(sy);
	return psci(PSCI_CPU_ON, mpidr, (u64)guest_boot, (u64)cpu);
}
#endif
