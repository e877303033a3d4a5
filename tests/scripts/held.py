"""What a stand-in for based_bench says that it holds."""

import json


def description(**roles):
    """What based_bench --describe prints: description(prefill={"based": "ours"}), all for CUDA."""
    operations = [
        {
            "name": operation,
            "implementations": [
                {"name": name, "device": "cuda", "role": role} for name, role in named.items()
            ],
        }
        for operation, named in roles.items()
    ]
    return json.dumps({"operations": operations})
