"""Every error that the engine raises, as one tree.

::

    ExeuntError
     ├─ ConfigError               a setting is wrong, or contradicts one made earlier
     │   ├─ ExitPolicyError       an exit policy does not fit the format or the bundle
     │   └─ BackendUnavailable    a backend's library is missing or cannot run here
     ├─ BundleError               a bundle is damaged, incomplete or of another version
     ├─ InputError                a sample cannot be used
     │   ├─ ImageError            an image cannot be decoded or is over a limit
     │   ├─ TextError             a text is empty, over a limit or not text
     │   └─ TensorError           a raw tensor has the wrong name, shape or dtype
     ├─ QueueFull                 no place is left: come back later
     ├─ EngineStopped             the engine is draining, closed or dead
     ├─ RequestCancelled          the caller gave the request up
     ├─ SegmentError              a segment failed while it ran
     └─ ModelOutputInvalid        the model's answer is not a finite number
"""


class ExeuntError(Exception):
    """Say what was wrong, what was expected and how to mend it.

    `error_type` is the stable name that clients and metrics see.
    """

    error_type = "internal"


class ConfigError(ExeuntError):
    """A setting is wrong, or contradicts one made earlier."""

    error_type = "config"


class ExitPolicyError(ConfigError):
    """An exit policy does not fit the format or the bundle."""

    error_type = "exit_policy"


class BackendUnavailable(ConfigError):
    """A backend's library is missing or cannot run here."""

    error_type = "backend_unavailable"


class BundleError(ExeuntError):
    """A bundle is damaged, incomplete or of another version."""

    error_type = "bundle"


class InputError(ExeuntError):
    """A sample cannot be used."""

    error_type = "input"


class ImageError(InputError):
    """An image cannot be decoded or is over a limit."""

    error_type = "image"


class TextError(InputError):
    """A text is empty, over a limit or not text."""

    error_type = "text"


class TensorError(InputError):
    """A raw tensor has the wrong name, shape or dtype."""

    error_type = "tensor"


class QueueFull(ExeuntError):
    """No place is left: come back later."""

    error_type = "queue_full"


class EngineStopped(ExeuntError):
    """The engine is draining, closed or dead."""

    error_type = "engine_stopped"


class RequestCancelled(ExeuntError):
    """The caller gave the request up."""

    error_type = "cancelled"


class SegmentError(ExeuntError):
    """A segment failed while it ran."""

    error_type = "segment_failed"


class ModelOutputInvalid(ExeuntError):
    """The model's answer is not a finite number."""

    error_type = "model_output_invalid"
