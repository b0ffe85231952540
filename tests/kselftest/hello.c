// SPDX-License-Identifier: GPL-2.0
/* The first thing a hypervisor does: run a guest, answer a hypercall, and hand an MMIO write to userspace. */
#include <sys/ioctl.h>

#include "bare.h"

extern const u8 hello_start[], hello_end[];

__asm__(".pushsection .text.hello, \"ax\"\n"
	".global hello_start, hello_end\n"
	"hello_start:\n"
	"	mov	w0, #0x80000000\n" /* SMCCC_VERSION */
	"	mov	x1, #0x1111\n" /* x4-x17 are preserved by SMCCC 1.1, and so are these two that are not used */
	"	mov	x18, #0x2222\n"
	"	mov	x30, #0x3333\n"
	"	hvc	#0\n"
	"	mov	x19, #0x09000000\n"
	"	str	w0, [x19]\n" /* the version */
	"	add	x20, x18, x30\n"
	"	str	x20, [x19, #8]\n" /* 0x5555 */
	"	mrs	x21, CurrentEL\n"
	"	strb	w21, [x19, #16]\n" /* EL1 is 4 */
	"1:	b	1b\n"
	"hello_end:\n"
	".popsection\n");

static u64 mmio_write(struct bare *b, u64 addr, u32 len)
{
	u64 value = 0;

	CHECK_OK(ioctl(b->vcpu, KVM_RUN, 0));
	CHECK_EQ(b->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(b->run->mmio.phys_addr, addr);
	CHECK_EQ(b->run->mmio.is_write, 1);
	CHECK_EQ(b->run->mmio.len, len);
	memcpy(&value, b->run->mmio.data, len);
	return value;
}

TEST(hypercall_and_mmio_write)
{
	struct bare b;
	u64 version;

	bare_create(&b, hello_start, hello_end);
	version = mmio_write(&b, BARE_MMIO, 4);
	ktap_note("SMCCC version %#lx", version);
	CHECK(version >= 0x10001 && version < 0x80000000);
	CHECK_EQ(mmio_write(&b, BARE_MMIO + 8, 8), 0x5555);
	CHECK_EQ(mmio_write(&b, BARE_MMIO + 16, 1), 4);
}
