"""Sets as kvss stores them, from the example that documents them."""
import copy
import json
import os
import uuid

SET_JSON = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'docs', 'format', 'set.json')

with open(SET_JSON, encoding='utf-8') as f:
    TEMPLATE = json.load(f)


def vm_uuid(name):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def set_files(disks):
    """{vm: bytes of its vda} as files of a set: {path in the set: content}."""
    manifest = copy.deepcopy(TEMPLATE)
    example, files = manifest['vms'][0], {}
    manifest.update(vms=[], components=[], events=[], set_id=str(uuid.uuid4()))
    for name, content in disks.items():
        vm = copy.deepcopy(example)
        place = 'vms/%s/disks/vda.raw' % name
        vm.update(name=name, uuid=vm_uuid(name), dir=name, files=[])
        vm['disks'][0].update(size=len(content), file=place)
        manifest['vms'].append(vm)
        files[place] = content
    files['set.json'] = json.dumps(manifest).encode()
    return files
