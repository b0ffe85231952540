// SPDX-License-Identifier: GPL-2.0
/*
 * The identification registers of a new VM: a guest reads what its VMM is told. Fields that are not zero are printed for the suite
 * `parity`, which compares them with those that KVM shows on the same machine.
 */
#include "abi.h"

static u64 seen[64];

static void guest_read(u64 arg)
{
#define READ(crm, op2) seen[crm * 8 + op2] = read_sysreg(S3_0_C0_C##crm##_##op2)
#define READ_GROUP(crm)                                                         \
	READ(crm, 0), READ(crm, 1), READ(crm, 2), READ(crm, 3), READ(crm, 4), \
		READ(crm, 5), READ(crm, 6), READ(crm, 7)
	READ_GROUP(1), READ_GROUP(2), READ_GROUP(3), READ_GROUP(4);
	READ_GROUP(5), READ_GROUP(6), READ_GROUP(7);
}

TEST(are_what_the_vmm_reads)
{
	struct vm *vm = vm_create(.main = guest_read, .gic = true);

	vcpu_done(&vm->vcpus[0]);
	for (u32 crm = 1; crm < 8; crm++) {
		for (u32 op2 = 0; op2 < 8; op2++) {
			u64 value = reg_get(&vm->vcpus[0], ARM64_SYS_REG(3, 0, 0, crm, op2));

			EXPECT_EQ(VM_GLOBAL(vm, seen[crm * 8 + op2]), value);
			for (u32 bit = 0; bit < 64; bit += 4) {
				if (value >> bit & 0xf)
					ktap_note("S3_0_C0_C%u_%u %u:%u %lx", crm, op2, bit + 3, bit, value >> bit & 0xf);
			}
		}
	}
	EXPECT(VM_GLOBAL(vm, seen[4 * 8]) != 0);
}
