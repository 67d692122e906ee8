"""Building blocks for provider adapters: code that the adapters of all clouds share.

The adapters in this repository use these modules, and those of third parties may; `docs/write-a-provider.md` is the guide. No module has a
base class for providers: an adapter calls the functions it needs, and `multicompute.provider` remains the contract.

Modules:
    plugin: a plug-in object that is described by data.
    settings: the provider's table of the configuration as a pydantic model.
    endpoints: which endpoints may be used, and the poll interval on a local cloud.
    vendor_errors: what a vendor's error code means, and the error to raise for it.
    seam: parts of the seam's methods, such as rolling back a launch that is incomplete.
    tags: the tags that a selector selects, and tags in a small alphabet.
    calls: pages, batches and calls in parallel.
    ssh: the addresses from which SSH is allowed.
    access: how to log in to a node.
    boot: the script that a node runs at boot, with the timer that enforces the lease.

Only `settings` imports pydantic. A plug-in object must import it, and the provider's own settings model, inside its methods.
"""
