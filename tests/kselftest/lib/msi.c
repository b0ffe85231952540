// SPDX-License-Identifier: GPL-2.0
#include "msi.h"

int its_create(struct vm *vm, u64 base)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_ITS };

	if (ioctl(vm->fd, KVM_CREATE_DEVICE, &device)) {
		if (errno == ENODEV)
			SKIP("no ITS");
		FAIL("KVM_CREATE_DEVICE(VGIC_ITS): %s", strerrorname_np(errno));
	}
	if (base) {
		CHECK_OK(attr_set(device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &base));
		CHECK_OK(attr_set(device.fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL));
	}
	return device.fd;
}

int msi(struct vm *vm, u32 device, u32 event)
{
	struct kvm_msi m = {
		.address_lo = GUEST_ITS + GITS_TRANSLATER, .data = event, .flags = KVM_MSI_VALID_DEVID, .devid = device
	};

	return ioctl(vm->fd, KVM_SIGNAL_MSI, &m);
}
