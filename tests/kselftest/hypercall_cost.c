// SPDX-License-Identifier: GPL-2.0
/*
 * What a hypercall costs: the guest reads its counter around 50 SMCCC_VERSION calls, 100 times over.
 *
 * The unit is counter ticks. In an emulated server started with -icount shift=0 on -cpu max that is executed instructions
 * (the counter runs at 1 GHz and one instruction takes 1 ns); anywhere else it is time. The guest's own instructions (two
 * per call) are included. LOFT_MAX_COST in the environment makes a larger median a failure.
 */
#include <sys/ioctl.h>

#include "bare.h"

#define ROUNDS 100
#define CALLS 50
#define RESULTS 0x1000 /* u64[ROUNDS] in guest memory, ticks per round */

extern const u8 cost_start[], cost_end[];

__asm__(".pushsection .text.cost, \"ax\"\n"
	".global cost_start, cost_end\n"
	"cost_start:\n"
	"	mov	x19, #0x40000000\n"
	"	add	x19, x19, #0x1000\n"
	"	mov	x20, #100\n"
	"2:	isb\n"
	"	mrs	x21, cntvct_el0\n"
	"	.rept	50\n"
	"	mov	w0, #0x80000000\n"
	"	hvc	#0\n"
	"	.endr\n"
	"	isb\n"
	"	mrs	x22, cntvct_el0\n"
	"	sub	x22, x22, x21\n"
	"	str	x22, [x19], #8\n"
	"	subs	x20, x20, #1\n"
	"	b.ne	2b\n"
	"	mov	x1, #0x09000000\n"
	"	str	w0, [x1]\n"
	"1:	b	1b\n"
	"cost_end:\n"
	".popsection\n");

static int by_value(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

/* What a VMM does: with the in-kernel GICv3. */
static void add_vgic(struct bare *b)
{
	u64 dist = 0x08000000, redist = 0x080a0000;
	struct kvm_create_device dev = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	struct kvm_device_attr attr = { .group = KVM_DEV_ARM_VGIC_GRP_ADDR, .attr = KVM_VGIC_V3_ADDR_TYPE_DIST, .addr = (u64)&dist };

	if (ioctl(b->vm, KVM_CREATE_DEVICE, &dev))
		SKIP("no in-kernel GICv3");
	CHECK_OK(ioctl(dev.fd, KVM_SET_DEVICE_ATTR, &attr));
	attr = (struct kvm_device_attr){ .group = KVM_DEV_ARM_VGIC_GRP_ADDR, .attr = KVM_VGIC_V3_ADDR_TYPE_REDIST, .addr = (u64)&redist };
	CHECK_OK(ioctl(dev.fd, KVM_SET_DEVICE_ATTR, &attr));
	attr = (struct kvm_device_attr){ .group = KVM_DEV_ARM_VGIC_GRP_CTRL, .attr = KVM_DEV_ARM_VGIC_CTRL_INIT };
	CHECK_OK(ioctl(dev.fd, KVM_SET_DEVICE_ATTR, &attr));
}

static void measure(bool vgic)
{
	const char *limit = getenv("LOFT_MAX_COST");
	struct bare b;
	u64 *ticks;

	bare_create(&b, cost_start, cost_end);
	if (vgic)
		add_vgic(&b);
	CHECK_OK(ioctl(b.vcpu, KVM_RUN, 0));
	CHECK_EQ(b.run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(b.run->mmio.phys_addr, BARE_MMIO);
	CHECK(*(u32 *)b.run->mmio.data >= 0x10001); /* the last call was answered */

	ticks = (u64 *)(b.ram + RESULTS);
	qsort(ticks, ROUNDS, sizeof(ticks[0]), by_value);
	for (int i = 0; i < 3; i++) {
		u64 hundredths = ticks[i * (ROUNDS - 1) / 2] * 100 / CALLS;

		ktap_note("hypercall round trip, ticks: %s %lu.%02lu", (const char *[]){ "min", "median", "max" }[i], hundredths / 100,
			  hundredths % 100);
	}
	CHECK(ticks[0] > 2 * CALLS);
	if (limit && *limit)
		CHECK(ticks[(ROUNDS - 1) / 2] <= strtoul(limit, NULL, 0) * CALLS);
}

TEST(with_vgic)
{
	measure(true);
}

TEST(without_vgic)
{
	measure(false);
}
