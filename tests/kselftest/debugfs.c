// SPDX-License-Identifier: GPL-2.0
/* What is there to watch VMs with beside the ioctls: debugfs has their counters, fdinfo says what a descriptor is. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi.h"
#include "vm.h"

#define DEBUGFS "/sys/kernel/debug"
#define CALLS 100

static const char *all_vms(void)
{
	return ktap_on_kvm() ? DEBUGFS "/kvm" : DEBUGFS "/loft";
}

static void need_debugfs(void)
{
	if (access(DEBUGFS "/sched", F_OK))
		mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	if (access(DEBUGFS "/sched", F_OK))
		SKIP("this kernel has no debugfs");
}

struct path {
	char text[128];
};

/* The directory of the VM that this process has made under this descriptor. */
static struct path dir_of(int vm)
{
	struct path path;

	snprintf(path.text, sizeof(path.text), "%s/%d-%d", all_vms(), getpid(), vm);
	return path;
}

static struct path file_in(const char *dir, const char *name)
{
	struct path path;

	CHECK(snprintf(path.text, sizeof(path.text), "%s/%s", dir, name) < (int)sizeof(path.text));
	return path;
}

static bool is_there(struct path path)
{
	return access(path.text, F_OK) == 0;
}

/* What was closed last may be freed a little later. Else the case takes too long. */
static void wait_gone(struct path path)
{
	while (is_there(path))
		sleep_us(1000);
}

/* One number and a newline, and nothing else. */
static u64 number_in(struct path path)
{
	char text[32], again[32];
	int fd = open(path.text, O_RDONLY);
	ssize_t size;
	u64 value;

	if (fd < 0)
		FAIL("%s: %s", path.text, strerrorname_np(errno));
	size = CHECK_OK(read(fd, text, sizeof(text) - 1));
	text[size] = 0;
	close(fd);
	value = strtoull(text, NULL, 10);
	snprintf(again, sizeof(again), "%llu\n", (unsigned long long)value);
	if (strcmp(text, again))
		FAIL("%s: '%s'", path.text, text);
	return value;
}

/* How many entries a directory has, of files or of directories. */
static u32 entries(const char *path, unsigned char type)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	u32 count = 0;

	CHECK(dir);
	while ((entry = readdir(dir)))
		count += entry->d_type == type && entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* The name of the nth counter that has one value; NULL: it has more. False after the last one. */
static bool counter_name(int stats, u32 n, const char **name)
{
	static struct {
		struct kvm_stats_desc desc;
		char name[256];
	} row;
	struct kvm_stats_header header;

	CHECK_EQ(pread(stats, &header, sizeof(header), 0), sizeof(header));
	if (n >= header.num_desc)
		return false;
	CHECK_EQ(pread(stats, &row, sizeof(row.desc) + header.name_size, header.desc_offset + n * (sizeof(row.desc) + header.name_size)),
		 sizeof(row.desc) + header.name_size);
	*name = row.desc.size == 1 ? row.desc.name : NULL;
	return true;
}

static void guest_calls(u64 arg)
{
	for (u64 i = 0; i < CALLS + arg; i++)
		guest_hvc(0x80000000, 0, 0, 0);
	GUEST_SYNC(1);
}

static void expect_file(const char *dir, const char *name, u64 value)
{
	struct path path = file_in(dir, name);
	struct stat file;

	CHECK_OK(stat(path.text, &file));
	EXPECT_EQ(file.st_mode, S_IFREG | 0444);
	if (number_in(path) != value)
		ktap_expect(__FILE__, __LINE__, "%s: %llu, wanted %llu", path.text, (unsigned long long)number_in(path),
			    (unsigned long long)value);
}

/* Those of the vCPUs in sum. */
TEST(a_file_for_each_counter)
{
	struct vm *vm = vm_create(.main = guest_calls, .vcpus = 2, .gic = true);
	int of_vm = stats_of(vm->fd), of_vcpus[] = { stats_of(vm->vcpus[0].fd), stats_of(vm->vcpus[1].fd) };
	struct path dir = dir_of(vm->fd);
	const char *name;
	u32 count = 0;

	need_debugfs();
	if (ktap_on_kvm())
		SKIP("there they can be written, and histograms have a file");
	for (int i = 0; i < 2; i++)
		vcpu_sync(&vm->vcpus[i], 1);
	vm_irq(vm, 40, 1); /* takes the lock of the shared interrupts */
	for (u32 n = 0; counter_name(of_vm, n, &name); n++, count++)
		expect_file(dir.text, name, stats_counter(of_vm, name));
	for (u32 n = 0; counter_name(of_vcpus[0], n, &name); n++) {
		if (!name)
			continue;
		expect_file(dir.text, name, stats_counter(of_vcpus[0], name) + stats_counter(of_vcpus[1], name));
		count++;
	}
	EXPECT_EQ(entries(dir.text, DT_REG), count);
	EXPECT_EQ(entries(all_vms(), DT_REG), count);
	EXPECT(number_in(file_in(dir.text, "hvc_exit_stat")) >= 2 * CALLS);
	EXPECT(number_in(file_in(dir.text, "gic_shared_locks")) > 0);
}

TEST(two_vms_and_their_sum)
{
	struct vm *a = vm_create(.main = guest_calls), *b = vm_create(.main = guest_calls);
	struct path dirs[] = { dir_of(a->fd), dir_of(b->fd) };
	u64 first;

	need_debugfs();
	/* Those of the program before may go only now. */
	while (entries(all_vms(), DT_DIR) > 2)
		sleep_us(1000);
	vcpu_sync(&a->vcpus[0], 1);
	first = number_in(file_in(dirs[0].text, "hvc_exit_stat"));
	EXPECT(first >= CALLS);
	EXPECT_EQ(number_in(file_in(dirs[1].text, "hvc_exit_stat")), 0);
	EXPECT_EQ(number_in(file_in(all_vms(), "hvc_exit_stat")), first);
	vcpu_sync(&b->vcpus[0], 1);
	EXPECT_EQ(number_in(file_in(dirs[0].text, "hvc_exit_stat")), first);
	EXPECT_EQ(number_in(file_in(all_vms(), "hvc_exit_stat")), first + number_in(file_in(dirs[1].text, "hvc_exit_stat")));
	vm_destroy(a);
	wait_gone(dirs[0]);
	EXPECT_EQ(number_in(file_in(all_vms(), "hvc_exit_stat")), number_in(file_in(dirs[1].text, "hvc_exit_stat")));
}

/* On KVM an open file keeps the VM. */
TEST(an_open_file_does_not_keep_the_vm)
{
	struct vm *vm = vm_create(.main = guest_calls);
	struct path dir = dir_of(vm->fd);
	char text[32];
	int fd, unread;

	need_debugfs();
	if (ktap_on_kvm())
		SKIP("about loft alone");
	fd = CHECK_OK(open(file_in(dir.text, "exits").text, O_RDONLY));
	unread = CHECK_OK(open(file_in(dir.text, "remote_tlb_flush").text, O_RDONLY));
	EXPECT(pread(fd, text, sizeof(text), 0) > 0);
	vm_destroy(vm);
	wait_gone(dir);
	EXPECT_ERRNO(pread(fd, text, sizeof(text), 0), EIO);
	EXPECT_ERRNO(read(unread, text, sizeof(text)), EIO);
	EXPECT_OK(close(fd));
	EXPECT_OK(close(unread));
}

/* And another VM under the same descriptor is one without a directory. */
TEST(a_vcpu_keeps_it)
{
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)), vcpu = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 0)), next;
	struct path dir = dir_of(vm);

	need_debugfs();
	close(vm);
	EXPECT_EQ(number_in(file_in(dir.text, "exits")), 0);
	next = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	CHECK_EQ(next, vm);
	EXPECT_OK(ioctl(next, KVM_CREATE_VCPU, 0));
	EXPECT(is_there(dir));
	close(vcpu);
	wait_gone(dir);
	close(next);
	/* The next one has it again. */
	next = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	EXPECT(is_there(dir_of(next)));
}

static volatile bool enough;

/* Reads all that is there, and does not mind what is gone. */
static void *read_all(void *arg)
{
	while (!enough) {
		DIR *vms = opendir(all_vms());
		struct dirent *vm, *file;

		while ((vm = readdir(vms))) {
			struct path path = file_in(all_vms(), vm->d_name);
			DIR *dir = vm->d_type == DT_DIR && vm->d_name[0] != '.' ? opendir(path.text) : NULL;

			while (dir && (file = readdir(dir))) {
				char text[32];
				int fd = open(file_in(path.text, file->d_name).text, O_RDONLY);

				if (fd < 0)
					continue;
				if (read(fd, text, sizeof(text)) > 0)
					++*(u64 *)arg;
				close(fd);
			}
			if (dir)
				closedir(dir);
		}
		closedir(vms);
	}
	return NULL;
}

TEST_SECONDS(read_while_vms_come_and_go, 60)
{
	pthread_t threads[2];
	u64 reads[2] = { 0 };

	need_debugfs();
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, read_all, &reads[i]) == 0);
	for (int i = ktap_times(30); i; i--) {
		struct vm *vm = vm_create(.main = guest_calls, .vcpus = 2);

		vcpu_sync(&vm->vcpus[1], 1);
		vm_destroy(vm);
	}
	while (!reads[0] || !reads[1]) {
		struct vm *vm = vm_create(.main = guest_calls);

		sleep_us(10000);
		vm_destroy(vm);
	}
	enough = true;
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	ktap_note("%llu reads", (unsigned long long)(reads[0] + reads[1]));
}

/* The value of a line of fdinfo, without its newline; empty if there is none. */
static struct path fdinfo(int fd, const char *key)
{
	struct path path, value = { "" };
	char line[128];
	FILE *file;

	snprintf(path.text, sizeof(path.text), "/proc/self/fdinfo/%d", fd);
	file = fopen(path.text, "r");
	CHECK(file);
	while (fgets(line, sizeof(line), file)) {
		size_t size = strlen(key);

		if (!strncmp(line, key, size) && !strncmp(line + size, ":\t", 2))
			snprintf(value.text, sizeof(value.text), "%.*s", (int)strcspn(line + size + 2, "\n"), line + size + 2);
	}
	fclose(file);
	return value;
}

static void expect_fdinfo(int fd, const char *key, const char *wanted)
{
	struct path value = fdinfo(fd, key);

	if (strcmp(value.text, wanted))
		ktap_expect(__FILE__, __LINE__, "%s: '%s', wanted '%s'", key, value.text, wanted);
}

static u64 spinning;

static void guest_spins_and_waits(u64 arg)
{
	GUEST_SYNC(1);
	while (READ_ONCE(spinning))
		;
	wfi();
}

TEST(descriptors)
{
	struct vm *vm = vm_create(.main = guest_spins_and_waits, .vcpus = 2, .type = 36);
	struct vm *bare = vm_create(.main = guest_calls, .vcpus = 2, .secondaries_off = true);
	struct vcpu *vcpu = &vm->vcpus[1];

	if (ktap_on_kvm())
		SKIP("about loft alone");
	expect_fdinfo(vm->fd, "vcpus", "2");
	expect_fdinfo(vm->fd, "memory", "4096 kB");
	expect_fdinfo(vm->fd, "ipa_bits", "36");
	expect_fdinfo(vm->fd, "irqchip", "none");
	expect_fdinfo(bare->fd, "ipa_bits", "40");
	expect_fdinfo(bare->vcpus[0].fd, "state", "host");
	expect_fdinfo(bare->vcpus[1].fd, "state", "off");
	gic_create(vm);
	gic_init(vm);
	CHECK_OK(vm_slot(vm, 1, 0, 0x80000000, 0x10000, host_alloc(0x10000, 0x1000)));
	expect_fdinfo(vm->fd, "irqchip", "GICv3");
	expect_fdinfo(vm->fd, "memory", "4160 kB");

	VM_GLOBAL(vm, spinning) = 1;
	expect_fdinfo(vcpu->fd, "vcpu", "1");
	expect_fdinfo(vcpu->fd, "mpidr", "0x1");
	expect_fdinfo(vcpu->fd, "state", "host");
	vcpu_sync(vcpu, 1);
	expect_fdinfo(vcpu->fd, "state", "host");
	vcpu_start(vcpu);
	while (strcmp(fdinfo(vcpu->fd, "state").text, "guest"))
		sleep_us(1000);
	VM_GLOBAL(vm, spinning) = 0;
	while (strcmp(fdinfo(vcpu->fd, "state").text, "waits"))
		sleep_us(1000);
}

/* The number of the VM in all its descriptors, which no other one has. */
TEST(which_descriptors_are_of_one_vm)
{
	struct vm *a = vm_create(.main = guest_calls, .vcpus = 2), *b = vm_create(.main = guest_calls);
	struct path number = fdinfo(a->fd, "vm");

	if (ktap_on_kvm())
		SKIP("about loft alone");
	CHECK(number.text[0]);
	for (int i = 0; i < 2; i++)
		expect_fdinfo(a->vcpus[i].fd, "vm", number.text);
	EXPECT(strcmp(fdinfo(b->fd, "vm").text, number.text) != 0);
	expect_fdinfo(b->vcpus[0].fd, "vm", fdinfo(b->fd, "vm").text);
}

/* Those of debugfs, also for whom debugfs is closed. */
TEST(a_vms_descriptor_has_the_counters)
{
	struct vm *vm = vm_create(.main = guest_calls, .vcpus = 2);
	struct path dir = dir_of(vm->fd);
	struct dirent *file;
	DIR *files;

	need_debugfs();
	if (ktap_on_kvm())
		SKIP("about loft alone");
	for (int i = 0; i < 2; i++)
		vcpu_sync(&vm->vcpus[i], 1);
	CHECK(number_in(file_in(dir.text, "hvc_exit_stat")) >= 2 * CALLS);
	files = opendir(dir.text);
	CHECK(files);
	while ((file = readdir(files))) {
		char wanted[32];

		if (file->d_type != DT_REG)
			continue;
		snprintf(wanted, sizeof(wanted), "%llu", (unsigned long long)number_in(file_in(dir.text, file->d_name)));
		expect_fdinfo(vm->fd, file->d_name, wanted);
	}
	closedir(files);
}
