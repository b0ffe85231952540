/* SPDX-License-Identifier: GPL-2.0 */
/* Pointer authentication: the keys, and what they make of a pointer. */
#ifndef PAUTH_H
#define PAUTH_H

#include "guest.h"

/* The features of a vCPU that has it. */
#define PTRAUTH (1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1 << KVM_ARM_VCPU_PTRAUTH_GENERIC)
#define APIAKEYLO_EL1 S3_0_C2_C1_0
#define APIAKEYHI_EL1 S3_0_C2_C1_1
#define APIBKEYLO_EL1 S3_0_C2_C1_2
#define APIBKEYHI_EL1 S3_0_C2_C1_3
#define APDAKEYLO_EL1 S3_0_C2_C2_0
#define APDAKEYHI_EL1 S3_0_C2_C2_1
#define APDBKEYLO_EL1 S3_0_C2_C2_2
#define APDBKEYHI_EL1 S3_0_C2_C2_3
#define APGAKEYLO_EL1 S3_0_C2_C3_0
#define APGAKEYHI_EL1 S3_0_C2_C3_1
#define ALL_KEYS(OP, x)                                                                                                     \
	OP(APIAKEYLO_EL1, (x) + 0); OP(APIAKEYHI_EL1, (x) + 1); OP(APIBKEYLO_EL1, (x) + 2); OP(APIBKEYHI_EL1, (x) + 3);     \
	OP(APDAKEYLO_EL1, (x) + 4); OP(APDAKEYHI_EL1, (x) + 5); OP(APDBKEYLO_EL1, (x) + 6); OP(APDBKEYHI_EL1, (x) + 7);     \
	OP(APGAKEYLO_EL1, (x) + 8); OP(APGAKEYHI_EL1, (x) + 9)
#define WRITE_KEY(reg, v) write_sysreg(v, reg)
#define CHECK_KEY(reg, v) GUEST_CHECK_EQ(read_sysreg(reg), v)

/* The signatures of one pointer under each key. */
#define SIGN(out)                                                                                                   \
	__asm__ volatile(".arch armv8.3-a\n\tmov x9, %1\n\tpacia x9, %2\n\tstr x9, [%0]\n\t"                          \
			 "mov x9, %1\n\tpacib x9, %2\n\tstr x9, [%0, #8]\n\tmov x9, %1\n\tpacda x9, %2\n\tstr x9, [%0, #16]\n\t" \
			 "mov x9, %1\n\tpacdb x9, %2\n\tstr x9, [%0, #24]\n\tpacga x9, %1, %2\n\tstr x9, [%0, #32]"           \
			 :                                                                                          \
			 : "r"(out), "r"(0x40001234UL), "r"(0x1111UL)                                               \
			 : "x9", "memory")

/* Guest: the instructions of all keys work, rather than doing nothing. */
static inline void pauth_enable(void)
{
	write_sysreg(read_sysreg(sctlr_el1) | 1UL << 31 | 1UL << 30 | 1UL << 27 | 1UL << 13, sctlr_el1);
	isb();
}

#endif
