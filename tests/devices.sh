# A machine with a device of each kind that can migrate, and what is done with
# their state; to be sourced after functions.sh.
# shellcheck shell=bash

# use_devices MACHINE: set $MACHINE and its options $devices.  The firmware
# looks into every disk, and with GUEST=boot-sector the guest is booted from
# the network, by e1000e: these devices are in use, not as after a reset.
# Left out: NVMe, which cannot migrate; TPM, which test-tpm is about; vmgenid,
# which by design is another one once it was loaded, and tells the
# guest so.
use_devices() {
    local disk=if=none,format=raw,readonly=on,file=$BOOT_SECTOR

    # shellcheck disable=SC2034  # of start_vm
    MACHINE=$1
    mkdir -p "$T/tftp"
    head -c 512 "$BOOT_SECTOR" > "$T/tftp/boot"
    # By default the RTC goes on with the host's clock in a stopped guest, and
    # would differ between two savings of the same one.
    devices=(-rtc "clock=vm" -device VGA
        -netdev "user,id=net0" -device "virtio-net-pci,netdev=net0"
        -netdev "user,id=net1,tftp=$T/tftp,bootfile=/boot"
        -device "e1000e,netdev=net1,bootindex=1"
        -device virtio-rng-pci -device virtio-balloon-pci
        -device qemu-xhci -device usb-tablet -device usb-kbd
        -drive "$disk,id=blk" -device "virtio-blk-pci,drive=blk"
        -device virtio-scsi-pci
        -drive "$disk,id=scsi" -device "scsi-hd,drive=scsi,bus=scsi.0"
        -drive "$disk,id=cd" -device "scsi-cd,drive=cd,bus=scsi.0"
        -device "ich9-ahci,id=ahci"
        -drive "$disk,id=ahci-cd" -device "ide-cd,drive=ahci-cd,bus=ahci.0"
        -device virtio-serial-pci -chardev "ringbuf,id=port"
        -device "virtserialport,chardev=port,name=port"
        -device pvpanic -device pvpanic-pci -device vmcoreinfo
        -device virtio-gpu-pci -device virtio-keyboard-pci
        -device usb-ehci -device "piix3-usb-uhci,id=uhci"
        -device "usb-hub,bus=uhci.0" -device "usb-ccid,bus=uhci.0"
        -audiodev "none,id=sound" -device "AC97,audiodev=sound"
        -device intel-hda -device "hda-duplex,audiodev=sound"
        -drive "$disk,id=lsi" -device "lsi53c895a,id=lsi"
        -device "scsi-hd,drive=lsi,bus=lsi.0"
        -drive "$disk,id=sas" -device "megasas,id=sas"
        -device "scsi-hd,drive=sas,bus=sas.0"
        -drive "$disk,id=stick" -device "usb-storage,drive=stick,bus=uhci.0"
        -netdev "user,id=net2" -device "e1000,netdev=net2"
        -netdev "user,id=net3" -device "rtl8139,netdev=net3"
        -device "pci-serial,chardev=port2" -chardev "ringbuf,id=port2"
        -device i6300esb)
    if [ "$1" = q35 ]; then
        devices+=(-device "pcie-root-port,id=root"
                  -device "virtio-rng-pci,bus=root")
    fi
}

# save_devices NAME FILE: the state of all devices of a stopped machine
save_devices() {
    monitor "$1" xen-save-devices-state \
        "{\"filename\": \"$2\", \"live\": true}" > /dev/null
}

# same_devices FILE FILE: what one machine saved, and another that had loaded
# it.  Names each section that differs, and where; fails if there is one.
same_devices() {
    /usr/bin/python3 -SE - "$@" <<'PYTHON'
import re, sys

def sections(path):
    """Of a file of device state: what is in each, by name and instance."""
    data = open(path, "rb").read()
    found, at = {}, 8                   # behind magic and version
    while data[at:at + 1] == b"\x04":   # full: number, name, instance, version
        number = data[at + 1:at + 5]
        start = at + 6 + data[at + 5]
        name = data[at + 6:start].decode()
        name += "/%d" % int.from_bytes(data[start:start + 4], "big")
        # Up to its footer, which is followed by another section (of a small
        # number) or by the end; what it holds may look like a footer alone.
        footer = re.compile(b"\x7e" + re.escape(number) +
                            rb"(?:\x04\0\0|\0\Z)", re.S)
        end = footer.search(data, start).start()
        found[name] = bytearray(data[start:end])
        at = end + 5
    return found

# e1000e: the lengths of receive descriptors and of their buffers follow from
# its registers.  A load computes them (e1000e_core_post_load), a reset leaves
# them 0 until the guest turns the receiver on: 16, 2048, 2048.
E1000E = {4213: b"\x10\0\0\x08\0", 4230: b"\0\0\x08\0"}

# A TPM of swtpm: near its end its clock, which goes on, and a digest over all.
TPM_CLOCK = -280

def is_loaded(name, saved, loaded):
    if name.startswith("tpm-emulator/") and len(saved) == len(loaded):
        del saved[TPM_CLOCK:], loaded[TPM_CLOCK:]
    if "/e1000e/" in name and saved[4213] == 0:
        for at, value in E1000E.items():
            saved[at:at + len(value)] = value
    return saved == loaded

saved, loaded = sections(sys.argv[1]), sections(sys.argv[2])
differ = False
for name in sorted(saved.keys() | loaded.keys()):
    a, b = saved.get(name, b""), loaded.get(name, b"")
    if not is_loaded(name, a, b):
        where = [i for i in range(min(len(a), len(b))) if a[i] != b[i]]
        print("%s: %d and %d octets" % (name, len(a), len(b)))
        for i in where[:10]:
            print("    at %d: %02x and %02x" % (i, a[i], b[i]))
        differ = True
if len(saved) < 30:
    sys.exit("only %d sections" % len(saved))
sys.exit(differ)
PYTHON
}
