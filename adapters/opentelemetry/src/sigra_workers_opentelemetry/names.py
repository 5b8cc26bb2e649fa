"""The names on spans and metrics: those of the semantic conventions for messaging, and our own."""

from typing import Final

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the semantic conventions."""

# -- attributes, of the conventions --------------------------------------------------------------------

BATCH_MESSAGE_COUNT: Final = "messaging.batch.message_count"
DESTINATION_NAME: Final = "messaging.destination.name"
ERROR_TYPE: Final = "error.type"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_TYPE: Final = "exception.type"
MESSAGE_ID: Final = "messaging.message.id"
OPERATION_NAME: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
SYSTEM: Final = "messaging.system"

# -- attributes, our own -------------------------------------------------------------------------------

ATTEMPT: Final = "sigra.attempt"
DECISION: Final = "sigra.decision"
ORGANIZATION: Final = "sigra.organization"
SNOOZES_BEFORE: Final = "sigra.snoozes"
WORKER: Final = "sigra.worker"

# -- metrics, of the conventions -----------------------------------------------------------------------

OPERATION_DURATION: Final = "messaging.client.operation.duration"
PROCESS_DURATION: Final = "messaging.process.duration"
SENT_MESSAGES: Final = "messaging.client.sent.messages"

# -- metrics, our own ----------------------------------------------------------------------------------

DEAD: Final = "sigra.dead"
QUEUE_TIME: Final = "sigra.queue_time"
RUNS: Final = "sigra.runs"
SNOOZES: Final = "sigra.snoozes"
