"""What torch reads of the headers of torch shards, mapped, or of a distributed checkpoint.

Reading the second executes whatever its pickle asks for.
"""

import sys
from pathlib import Path

path = Path(sys.argv[1])
if (path / ".metadata").exists():
    from torch.distributed.checkpoint.filesystem import FileSystemReader

    print(len(FileSystemReader(path).read_metadata().state_dict_metadata))
else:
    import torch

    shards = [
        torch.load(shard, mmap=True, weights_only=True) for shard in sorted(path.glob("*.bin"))
    ]
    print(sum(map(len, shards)))
