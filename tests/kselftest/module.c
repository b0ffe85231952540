// SPDX-License-Identifier: GPL-2.0
/* The module cannot be taken away while anything of it is in use. About loft alone; KVM is built into the kernel. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"

static void need_module(void)
{
	if (ktap_on_kvm())
		SKIP("KVM is not a module here");
	if (access("/sys/module/loft/refcnt", R_OK))
		SKIP("loft is not loaded as a module");
}

static int references(void)
{
	char text[16] = { 0 };
	int fd = CHECK_OK(open("/sys/module/loft/refcnt", O_RDONLY));

	CHECK(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return atoi(text);
}

/* The last of what was closed may be freed a little later. Else the case takes too long. */
static void wait_references(int count)
{
	while (references() != count)
		sleep_us(1000);
}

/* In use, so it stays: what delete_module(2) says then without waiting. */
static void expect_busy(const char *what)
{
	if (references() == 0)
		FAIL("no reference is held by %s: not trying to unload", what);
	errno = 0;
	if (syscall(SYS_delete_module, "loft", O_NONBLOCK) == 0)
		FAIL("the module was unloaded under %s", what);
	if (errno != EAGAIN && errno != EBUSY)
		ktap_expect(__FILE__, __LINE__, "%s: errno %d, wanted EAGAIN or EBUSY", what, errno);
}

static void guest_nothing(u64 arg)
{
}

/* Who else may use it is for udev's rules to say, of which the server has none. */
TEST(the_node_is_roots_alone)
{
	struct stat node;
	int status;
	pid_t child;

	need_module();
	CHECK_OK(stat(ktap_device, &node));
	EXPECT_EQ(node.st_mode, S_IFCHR | 0600);
	EXPECT_EQ(node.st_uid, 0);
	EXPECT_EQ(node.st_gid, 0);
	child = CHECK_OK(fork());
	if (child == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(open(ktap_device, O_RDONLY) != -1 || errno != EACCES);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
}

TEST(each_file_holds_it)
{
	int idle, device, vm, vcpu;
	struct kvm_create_device gic = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	struct kvm_vcpu_init init;

	need_module();
	idle = references();
	device = CHECK_OK(open(ktap_device, O_RDWR));
	expect_busy("an open device");
	vm = CHECK_OK(ioctl(device, KVM_CREATE_VM, 0));
	close(device);
	expect_busy("a VM");
	CHECK_OK(ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init));
	vcpu = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 0));
	CHECK_OK(ioctl(vm, KVM_CREATE_DEVICE, &gic));
	close(vm);
	expect_busy("a vCPU and a GIC");
	close(gic.fd);
	expect_busy("a vCPU");
	EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init));
	close(vcpu);
	wait_references(idle);
}

/* Also when it shows a VM no more: closing it calls the module. */
TEST(a_file_of_debugfs_holds_it)
{
	char path[64];
	int idle, vm, file;

	need_module();
	idle = references();
	vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	snprintf(path, sizeof(path), "/sys/kernel/debug/loft/%d-%d/exits", getpid(), vm);
	file = open(path, O_RDONLY);
	if (file < 0)
		SKIP("%s: %s", path, strerrorname_np(errno));
	close(vm);
	close(sys_fd());
	while (access(path, F_OK) == 0)
		sleep_us(1000);
	expect_busy("a file of debugfs");
	close(file);
	wait_references(idle);
}

TEST(a_mapping_holds_it)
{
	int idle;
	struct vm *vm;

	need_module();
	idle = references();
	vm = vm_create(.main = guest_nothing);
	vcpu_done(&vm->vcpus[0]);
	close(vm->vcpus[0].fd);
	close(vm->fd);
	close(sys_fd());
	expect_busy("the mapping of a vCPU's run page");
	vm->vcpus[0].run->immediate_exit = 1;
	munmap(vm->vcpus[0].run, 4096);
	wait_references(idle);
}
