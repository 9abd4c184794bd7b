"""Deliver the incidents that wait in the outbox.

The story: callbacks do not wait for BzCtrl. They write each incident into the outbox, and this DAG sends all of them once a
minute: with one token, the oldest first. If the network was down at night, it sends what has been waiting since.

Things to notice:

* One line is all that a DAG file needs. Without this DAG, an incident that could not be delivered waits until the next
  callback, and that of a broken DAG file waits for ever.
* One run is active at a time. A run is skipped if nothing waits. It fails if an incident had to be kept or was rejected,
  after it has sent all the others: the error names each of them with its reason.
* The comment counts: Airflow looks for DAGs only in files that contain the words "airflow" and "dag".
* It raises no incident about itself: the deployment's policy leaves it out, because such an incident would wait for it.

It needs the connections that the incidents name.
"""

from __future__ import annotations

from bzctrl_provider.outbox import create_delivery_dag

# A DAG of Airflow
dag = create_delivery_dag(doc_md=__doc__)
