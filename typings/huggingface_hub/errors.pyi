class _Response:
    status_code: int

class HfHubHTTPError(Exception):
    response: _Response

class RevisionNotFoundError(HfHubHTTPError): ...
class HFValidationError(ValueError): ...
