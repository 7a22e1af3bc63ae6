"""River's data set of sites that phish, each with its truth: what a learner says of it is known from elsewhere."""

import os

from river import linear_model, optim, preprocessing

from headrace import Event, Pipeline, field


class Site(Event, topic=os.environ.get("FAULTS_TOPIC", "sites"), key="site"):
    """A site, and whether it phishes."""

    id: str
    at: float
    site: str
    label: bool
    empty_server_form_handler: float
    popup_window: float
    https: float
    request_from_other_domain: float
    anchor_from_other_domain: float
    is_popular: float
    long_url: float
    age_of_domain: float
    ip_in_url: float


NAMES = Site.__struct_fields__[4:]

pipeline = Pipeline(
    name="phishing",
    events=Site,
    labels="label",
    features={name: field(name) for name in NAMES},
    online=preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.005)),
)
