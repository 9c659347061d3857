"""Which made-up requests `scripts/test` leaves out."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """An empty value of a query parameter counts as absent, as browsers' forms send it; the description need not say so."""
    return not any(value in ("", [], [""], {}, None) for value in (case.query or {}).values())
