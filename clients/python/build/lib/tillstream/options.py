"""Where the bus is and how much a member takes at once."""

import os
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Options:
    """How a member runs. The environment sets brokers, prefix and client settings; what is given in the program wins."""

    brokers: str = "127.0.0.1:9092"
    """TILLSTREAM_BROKERS, or the installation's own TILLSTREAM__BUS__BROKERS."""
    topic_prefix: str = ""
    """TILLSTREAM_TOPIC_PREFIX, or TILLSTREAM__BUS__TOPICPREFIX."""
    kafka: dict[str, str | int | float | bool] = field(default_factory=dict)
    """librdkafka's settings for every client, e.g. security.protocol. TILLSTREAM_KAFKA_SECURITY_PROTOCOL and so on."""
    batch_records: int = 2000
    """The most input records in a transaction."""
    batch_seconds: float = 0.1
    """The longest that a batch is worked on before it is committed; one slow event may take longer."""
    heartbeat_seconds: float = 5.0
    session_ms: int = 10_000
    """After so long without a sign of life the group gives a member's partitions to others."""
    transaction_ms: int = 10_000
    """After so long the broker ends the transaction of a member that died."""

    @classmethod
    def from_environment(cls, **given: Any) -> "Options":
        """Options from the environment, then from the arguments."""
        found: dict[str, Any] = {}
        for name, variables in (
            ("brokers", ("TILLSTREAM_BROKERS", "TILLSTREAM__BUS__BROKERS")),
            ("topic_prefix", ("TILLSTREAM_TOPIC_PREFIX", "TILLSTREAM__BUS__TOPICPREFIX")),
        ):
            for variable in variables:
                if os.environ.get(variable):
                    found.setdefault(name, os.environ[variable])
        kafka = "TILLSTREAM_KAFKA_"
        found["kafka"] = {
            name.removeprefix(kafka).lower().replace("_", "."): value
            for name, value in os.environ.items()
            if name.startswith(kafka)
        }
        found["kafka"].update(given.pop("kafka", {}))
        return cls(**{**found, **given})
