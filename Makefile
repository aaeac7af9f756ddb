# Curling: fault tolerance for QEMU's virtual machines
#
# "make help" lists what can be made.  Everything made is in build/.
#
#   V=1        show the commands
#   WERROR=1   a warning is an error (also with CI=true)
#   CC, CFLAGS, LDFLAGS   yours; what the code itself needs is added to them
#
# Copyright the Curling authors
# SPDX-License-Identifier: GPL-2.0-or-later

VERSION = 0.1
CFLAGS ?= -O2 -g
PREFIX = /usr/local
DESTDIR =

# --- What there is: one line for each file, in the order of the alphabet

LIB_SOURCES = \
	apply.c \
	beat.c \
	channel.c \
	cond.c \
	copies.c \
	crc32c.c \
	delta.c \
	describe.c \
	error.c \
	failover.c \
	frame.c \
	hello.c \
	intake.c \
	memory.c \
	offers.c \
	pack.c \
	ram.c \
	receiver.c \
	round.c \
	sender.c \
	session.c \
	stats.c \
	tuner.c

# curlingctl; all but ctl-main.c are what its unit tests are linked with
CTL_SOURCES = \
	ctl-change.c \
	ctl-checkpoint.c \
	ctl-commands.c \
	ctl-common.c \
	ctl-complete.c \
	ctl-derive.c \
	ctl-doctor.c \
	ctl-endpoint.c \
	ctl-events.c \
	ctl-examine.c \
	ctl-failover.c \
	ctl-get.c \
	ctl-history.c \
	ctl-host.c \
	ctl-json.c \
	ctl-main.c \
	ctl-options.c \
	ctl-pair.c \
	ctl-pairsconf.c \
	ctl-protect.c \
	ctl-proxy.c \
	ctl-qmp.c \
	ctl-reader.c \
	ctl-report.c \
	ctl-sample.c \
	ctl-screen.c \
	ctl-session.c \
	ctl-set.c \
	ctl-setting.c \
	ctl-ssh.c \
	ctl-sshconf.c \
	ctl-sshkeys.c \
	ctl-sshlogin.c \
	ctl-status.c \
	ctl-switchover.c \
	ctl-unprotect.c \
	ctl-verdict.c \
	ctl-watch.c

# Programs of cmocka: tests/NAME.c, linked with the library
UNIT_TESTS = \
	test-channel \
	test-crc32c \
	test-delta \
	test-describe \
	test-ends \
	test-failover \
	test-fence \
	test-frame \
	test-pack \
	test-ram \
	test-round \
	test-session \
	test-stats \
	test-tuner

# The same of curlingctl, linked with its objects as well
CTL_TESTS = \
	test-ctl-derive \
	test-ctl-pair \
	test-ctl-qmp \
	test-ctl-reader \
	test-ctl-setting \
	test-sshconf \
	test-sshkeys

# Harnesses tests/fuzz-NAME.c, each with a corpus in tests/corpus/NAME:
# "make fuzz" runs them, and the unit tests replay the corpora
FUZZERS = \
	delta \
	frame \
	round \
	sender \
	session

CTL_FUZZERS = \
	qmp

SHELL_SCRIPTS = \
	.ci/run \
	$(filter-out scripts/ocf scripts/completion %.py,$(wildcard scripts/*)) \
	scripts/completion/curlingctl.bash \
	tests/run \
	tests/guest/mkinitramfs \
	$(wildcard tests/*.sh)

# What is in the tree, but in no list: "make check" does not pass over it.
UNLISTED = $(filter-out $(LIB_SOURCES:%=curling/%) \
		$(CTL_SOURCES:%=curling/%),$(wildcard curling/*.c)) \
	$(filter-out $(UNIT_TESTS:%=tests/%.c) $(CTL_TESTS:%=tests/%.c), \
		$(wildcard tests/test-*.c)) \
	$(filter-out $(FUZZERS:%=tests/fuzz-%.c) tests/fuzz-replay.c \
		$(CTL_FUZZERS:%=tests/fuzz-%.c),$(wildcard tests/fuzz-*.c))

# --- Flags

BUILD = build
SANITIZE =
SANITIZERS = -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer

ifneq ($(filter 1,$(WERROR))$(filter true,$(CI)),)
WERROR_FLAGS = -Werror
endif

WARNINGS = -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wshadow -Wundef -Wvla -Wformat-security \
	-Wwrite-strings

# The author's flags, then the user's: both are kept apart.
NEEDED_CFLAGS = -std=gnu11 -D_GNU_SOURCE= -fPIC -pthread $(WARNINGS) \
	$(SANITIZE)
NEEDED_LDFLAGS = -pthread $(SANITIZE)
TEST_CFLAGS = -iquote curling -Ibuild/include
COMPILE = $(CC) $(NEEDED_CFLAGS) $(CPPFLAGS) $(CFLAGS)
LINK = $(CC) $(NEEDED_LDFLAGS) $(CFLAGS) $(LDFLAGS)

ifeq ($(V),1)
Q =
step = @:
else
Q = @
step = @printf '  %-8s%s\n'
MAKEFLAGS += --no-print-directory
endif

LIB = $(BUILD)/lib/libcurling.a
CTL = $(BUILD)/bin/curlingctl
CTL_LIB = $(BUILD)/obj/libctl.a
CTL_OBJECTS = $(CTL_SOURCES:%.c=$(BUILD)/obj/curling/%.o)
CTL_PACKAGES = gio-2.0 gio-unix-2.0 jansson libssh2 ncursesw
# Asked for when it is needed: the library needs none of these.
CTL_CFLAGS = $(shell pkg-config --cflags $(CTL_PACKAGES)) \
	-DCURLING_VERSION='"$(VERSION)"'
CTL_LIBS = $(shell pkg-config --libs $(CTL_PACKAGES)) -lm
LIB_OBJECTS = $(LIB_SOURCES:%.c=$(BUILD)/obj/curling/%.o)
UNIT_PROGRAMS = $(UNIT_TESTS:%=$(BUILD)/tests/%)
REPLAYS = $(FUZZERS:%=test-fuzz-%)
REPLAY_PROGRAMS = $(REPLAYS:%=$(BUILD)/tests/%)
FUZZ_PROGRAMS = $(FUZZERS:%=$(BUILD)/tests/fuzz-%)
UNIT_PASSED = $(UNIT_TESTS:%=$(BUILD)/obj/tests/%.passed) \
	$(REPLAYS:%=$(BUILD)/obj/tests/%.passed)
CTL_TEST_PROGRAMS = $(CTL_TESTS:%=$(BUILD)/tests/%)
CTL_REPLAYS = $(CTL_FUZZERS:%=test-fuzz-%)
CTL_REPLAY_PROGRAMS = $(CTL_REPLAYS:%=$(BUILD)/tests/%)
CTL_FUZZ_PROGRAMS = $(CTL_FUZZERS:%=$(BUILD)/tests/fuzz-%)
GUESTS = build/guest/initramfs.cpio.gz build/guest/boot-sector \
	build/guest/disk-reader build/guest/load.cpio.gz

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all ctl install lib unit qemu qemu-asan guest tools demo check check-long \
	check-asan check-model check-qemu fuzz soak bench bench-crc \
	bench-faults shellcheck clean help FORCE

## Everything: library, curlingctl, guest, QEMU; "make lib ctl guest qemu"
all: lib ctl guest qemu
	@:

## libcurling and its unit tests, which are run (no network, no root, no QEMU)
lib: $(LIB) build/lib/pkgconfig/curling.pc unit \
	$(BUILD)/obj/tests/test-lib-symbols.passed

unit: $(UNIT_PASSED)

## curlingctl: build/bin/curlingctl (no network, no root, no QEMU)
ctl: $(CTL)
	@:

## Install curlingctl and the library, and QEMU if it was built: PREFIX
## (/usr/local), DESTDIR; scripts/install --uninstall takes them away
install: $(CTL) $(LIB)
	$(Q)DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/install

## QEMU with the series of qemu-patches/
qemu: lib
	+$(Q)scripts/qemu-build

## The same QEMU under the address sanitizer: build/asan/bin, for some tests
qemu-asan: lib
	+$(Q)$(MAKE) BUILD=build/asan SANITIZE="$(SANITIZERS)" \
		build/asan/lib/libcurling.a
	+$(Q)scripts/qemu-build --asan

## The guests of demo and tests: a kernel with an initramfs, a boot sector
guest: $(GUESTS)
	$(Q)scripts/qemu-fetch kernel

## A guest outlives its sender: installs what is missing, builds, shows it
demo:
	$(Q)scripts/install-deps
	+$(Q)$(MAKE) all
	$(Q)scripts/demo

## All tests, after all set-up; TESTS="NAME..." for some, CHECK=asan for the
## library and its unit tests under the address and behaviour sanitizers
ifeq ($(CHECK),asan)
check: check-asan
else
check:
ifneq ($(CHECK),)
	$(error CHECK=$(CHECK) is not known; there is CHECK=asan)
endif
	$(if $(strip $(UNLISTED)),$(error not in the Makefile: $(UNLISTED)))
	$(Q)scripts/install-deps
	+$(Q)$(MAKE) all tools
	$(Q)tests/run $(TESTS)
endif

# Whole sessions with both QEMUs under the address sanitizer
SESSIONS_ASAN = test-failover-eager test-failover-rounds-full test-disks \
	test-poweroff-and-quit test-guest-ends test-tls

# curlingctl under them
CTL_ASAN = test-ctl-commands test-ctl-protect test-ctl-ssh test-ctl-story

## All tests, those that sample at full length; sessions and the library under
## the address sanitizer; QEMU's own tests.  Two hours
check-long:
	$(Q)scripts/install-deps
	+$(Q)$(MAKE) all tools
	+$(Q)$(MAKE) qemu-asan
	$(Q)STRICT=1 LONG=1 tests/run $(TESTS)
	$(Q)QEMU=$(CURDIR)/build/asan/bin/qemu-system-x86_64 tests/run $(SESSIONS_ASAN)
	+$(Q)$(MAKE) check-asan
	+$(Q)$(MAKE) BUILD=build/asan SANITIZE="$(SANITIZERS)" ctl
	$(Q)CTL=$(CURDIR)/build/asan/bin/curlingctl tests/run $(CTL_ASAN)
	+$(Q)LONG=1 $(MAKE) check-qemu

check-asan:
	$(Q)scripts/install-deps
	+$(Q)$(MAKE) BUILD=build/asan SANITIZE="$(SANITIZERS)" unit-programs
	$(Q)BUILD=$(CURDIR)/build/asan tests/run $(or $(TESTS),$(UNIT_TESTS) \
		$(REPLAYS) $(CTL_TESTS) $(CTL_REPLAYS))

## QEMU's own tests of migration on the patched QEMU, and ours in the series;
## CHECK_QEMU="PATH..." for some, such as migration/curling
check-qemu:
	$(Q)scripts/install-deps
	+$(Q)$(MAKE) lib
	$(Q)scripts/check-qemu $(CHECK_QEMU)

## Search all that the state machines of both sides can do together; LONG=1
## for more messages under way
check-model:
	$(Q)tests/test-model.sh

## Random faults and takeovers, one after the other, for MINUTES=N (30)
soak:
	+$(Q)$(MAKE) all tools
	$(Q)tests/soak.sh

## Fuzz the library with clang: FUZZ_SECONDS=N for each of FUZZERS="NAME...";
## what they find is in build/fuzz/
FUZZ_SECONDS = 60
fuzz:
	$(Q)mkdir -p build/fuzz
	$(Q)echo 'int LLVMFuzzerTestOneInput(void); \
		int LLVMFuzzerTestOneInput(void) { return 0; }' | \
		clang -fsanitize=fuzzer -x c -o build/fuzz/works - \
		2> build/fuzz/works.log || { echo "fuzz: this needs clang with" \
		"libFuzzer: apt-get install clang libclang-rt-dev" >&2; exit 1; }
	+$(Q)$(MAKE) BUILD=build/fuzz CC=clang \
		SANITIZE="$(SANITIZERS) -fsanitize=fuzzer-no-link" fuzz-programs
	$(Q)for name in $(FUZZERS) $(CTL_FUZZERS); do \
		echo "fuzz-$$name, $(FUZZ_SECONDS) s"; \
		mkdir -p build/fuzz/corpus/$$name; \
		build/fuzz/tests/fuzz-$$name -max_total_time=$(FUZZ_SECONDS) \
			-max_len=2000 -timeout=60 \
			-artifact_prefix=build/fuzz/$$name- \
			build/fuzz/corpus/$$name tests/corpus/$$name \
			> build/fuzz/$$name.log 2>&1 || \
			{ tail -n 40 build/fuzz/$$name.log; exit 1; }; \
		tail -n 1 build/fuzz/$$name.log; \
	done

## Curling beside COLO and stock migration; BENCH=--short, --help, ...
bench:
	+$(Q)$(MAKE) all tools
	$(Q)tests/bench/bench $(BENCH)

## How long a guest stands still when its receiver is lost, and the like
bench-faults:
	+$(Q)$(MAKE) all tools
	$(Q)tests/bench/faults

## How fast checksums are
bench-crc: $(BUILD)/tests/bench-crc
	$(Q)$<

## shellcheck on every shell script
shellcheck:
	$(Q)shellcheck -x -P SCRIPTDIR:. $(SHELL_SCRIPTS)

## Remove what was built; build/fetch (downloads) and build/qemu stay
clean:
	$(Q)rm -rf build/asan build/asan-qemu build/bin build/check-qemu \
		build/fuzz build/guest build/include build/lib build/obj \
		build/patches-check build/qemu-obj build/tests \
		build/qemu-build.*

## This list
help:
	@awk '/^## / { text = text (text == "" ? "" : " ") substr($$0, 4); next } \
	      text != "" && /^[a-z-]+:/ { \
	          split($$0, name, ":"); \
	          line = sprintf("  %-12s", name[1]); \
	          n = split(text, word, " "); \
	          for (i = 1; i <= n; i++) { \
	              if (length(line) + length(word[i]) > 78) { \
	                  print line; line = sprintf("  %-12s", "") \
	              } \
	              line = line " " word[i] \
	          } \
	          print line; text = "" \
	      }' Makefile

# --- The library

# Objects depend on the flags that they were made with.  -Werror changes none
# of them, so it is left out of this.
$(BUILD)/obj/flags: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(COMPILE) | $(LINK)' | cmp -s - $@ || \
		echo '$(COMPILE) | $(LINK)' > $@

$(BUILD)/obj/curling/%.o: curling/%.c $(BUILD)/obj/flags
	$(step) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(WERROR_FLAGS) -MMD -MP -c -o $@ $<

$(CTL_OBJECTS): $(BUILD)/obj/curling/%.o: curling/%.c $(BUILD)/obj/flags
	$(step) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(CTL_CFLAGS) $(WERROR_FLAGS) -MMD -MP -c -o $@ $<

$(CTL_LIB): $(filter-out %/ctl-main.o,$(CTL_OBJECTS))
	$(step) AR $@
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

$(CTL): $(BUILD)/obj/curling/ctl-main.o $(CTL_LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(CTL_LIBS)

$(LIB): $(LIB_OBJECTS)
	$(step) AR $@
	$(Q)mkdir -p $(@D)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(LIB_OBJECTS)

# An installed library has its headers in a folder named curling/: so they
# are found here as well, and no short name such as error.h gets in the way.
build/include/curling:
	$(Q)mkdir -p $(@D)
	$(Q)ln -sfn ../../curling $@

# It names this very folder: a tree that was moved needs another one.
build/lib/pkgconfig/curling.pc: curling/curling.pc.in FORCE \
		| build/include/curling
	$(Q)mkdir -p $(@D)
	$(Q)sed -e 's|@BUILD@|$(CURDIR)/build|' -e 's|@VERSION@|$(VERSION)|' \
		$< > $@.new
	$(Q)cmp -s $@.new $@ || cp $@.new $@
	$(Q)rm $@.new

# --- Tests and tools

$(BUILD)/obj/tests/%.o: tests/%.c $(BUILD)/obj/flags | build/include/curling
	$(step) CC $<
	$(Q)mkdir -p $(@D)
	$(Q)$(COMPILE) $(TEST_CFLAGS) $(WERROR_FLAGS) -MMD -MP -c -o $@ $<

$(UNIT_PROGRAMS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ -lcmocka

# channel.o is not among what they take from the library: its clock is fuzz.c's.
FUZZ_COMMON = $(BUILD)/obj/tests/fuzz.o $(LIB)

$(REPLAY_PROGRAMS): $(BUILD)/tests/test-%: $(BUILD)/obj/tests/%.o \
		$(BUILD)/obj/tests/fuzz-replay.o $(FUZZ_COMMON)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^

$(FUZZ_PROGRAMS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(FUZZ_COMMON)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^

# Those of curlingctl
$(CTL_TESTS:%=$(BUILD)/obj/tests/%.o) \
$(CTL_FUZZERS:%=$(BUILD)/obj/tests/fuzz-%.o): TEST_CFLAGS += $(CTL_CFLAGS)

$(CTL_TEST_PROGRAMS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(CTL_LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(CTL_LIBS) -lcmocka

$(CTL_REPLAY_PROGRAMS): $(BUILD)/tests/test-%: $(BUILD)/obj/tests/%.o \
		$(BUILD)/obj/tests/fuzz-replay.o $(FUZZ_COMMON) $(CTL_LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^ $(CTL_LIBS)

$(CTL_FUZZ_PROGRAMS): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(FUZZ_COMMON) \
		$(CTL_LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^ $(CTL_LIBS)

$(foreach name,$(FUZZERS),$(eval $(BUILD)/obj/tests/test-fuzz-$(name).passed: \
	$(wildcard tests/corpus/$(name) tests/corpus/$(name)/*)))

BENCH_PROGRAMS = $(BUILD)/tests/bench-crc $(BUILD)/tests/bench-record

$(BENCH_PROGRAMS): $(BUILD)/tests/bench-%: $(BUILD)/obj/tests/bench/%.o $(LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^

$(BUILD)/tests/bench-nagle.so: tests/bench/nagle.c
	$(step) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -shared -fPIC $(CFLAGS) -o $@ $<

$(BUILD)/tests/proxy: $(BUILD)/obj/tests/proxy.o $(LIB)
	$(step) LD $@
	$(Q)mkdir -p $(@D)
	$(Q)$(LINK) -o $@ $^

.PHONY: unit-programs fuzz-programs
unit-programs: $(UNIT_PROGRAMS) $(REPLAY_PROGRAMS) $(CTL_TEST_PROGRAMS) \
	$(CTL_REPLAY_PROGRAMS)

fuzz-programs: $(FUZZ_PROGRAMS) $(CTL_FUZZ_PROGRAMS)

tools: $(BENCH_PROGRAMS) $(BUILD)/tests/bench-nagle.so $(BUILD)/tests/proxy \
		$(CTL_TEST_PROGRAMS) $(CTL_REPLAY_PROGRAMS)
	@:

# A unit test runs when it or the library changed.
$(UNIT_PASSED): $(BUILD)/obj/tests/%.passed: $(BUILD)/tests/%
	$(step) TEST $*
	$(Q)$< > $(@:.passed=.log) 2>&1 || { cat $(@:.passed=.log); exit 1; }
	$(Q)touch $@

$(BUILD)/obj/tests/test-lib-symbols.passed: tests/test-lib-symbols.sh $(LIB)
	$(step) TEST test-lib-symbols
	$(Q)mkdir -p $(@D)
	$(Q)CC='$(CC)' $< $(LIB) > /dev/null
	$(Q)touch $@

build/guest/initramfs.cpio.gz: tests/guest/init.c
build/guest/load.cpio.gz: tests/guest/load.c
build/guest/%.cpio.gz: tests/guest/mkinitramfs tests/guest/guest.c \
		tests/guest/guest.h
	$(step) GEN $@
	$(Q)mkdir -p $(@D)
	$(Q)CC='$(CC)' $< $(filter-out tests/guest/guest.%,$(filter %.c,$^)) $@

build/guest/boot-sector build/guest/disk-reader: \
build/guest/%: tests/guest/%.S tests/guest/print.S
	$(step) GEN $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -m32 -nostdlib -static -no-pie -Wl,--build-id=none \
		-Wl,-Ttext=0x7c00,-e0x7c00,--oformat=binary -o $@ $<

FORCE:

-include $(LIB_OBJECTS:.o=.d) $(CTL_OBJECTS:.o=.d) $(UNIT_TESTS:%=$(BUILD)/obj/tests/%.d) \
	$(FUZZERS:%=$(BUILD)/obj/tests/fuzz-%.d) $(BUILD)/obj/tests/fuzz.d \
	$(CTL_TESTS:%=$(BUILD)/obj/tests/%.d) \
	$(CTL_FUZZERS:%=$(BUILD)/obj/tests/fuzz-%.d) \
	$(BUILD)/obj/tests/fuzz-replay.d \
	$(BENCH_PROGRAMS:$(BUILD)/tests/bench-%=$(BUILD)/obj/tests/bench/%.d) \
	$(BUILD)/obj/tests/proxy.d
