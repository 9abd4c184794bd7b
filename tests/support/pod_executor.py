"""An executor that runs each task as the KubernetesExecutor does: in a process with a disk of its own, which ends with it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from airflow.executors.base_executor import BaseExecutor


class PodExecutor(BaseExecutor):
    def start(self):
        self._pods = {}

    def _process_workloads(self, workload_list):
        for workload in workload_list:
            self.queued_tasks.pop(workload.key)
            self.running.add(workload.key)
            disk = tempfile.mkdtemp(prefix="pod-", dir=os.environ["BZCTRL_TESTS_SHARED"])
            process = subprocess.Popen(
                # The command of the KubernetesExecutor.
                [
                    sys.executable,
                    "-m",
                    "airflow.sdk.execution_time.execute_workload",
                    "--json-string",
                    workload.model_dump_json(),
                ],
                env={**os.environ, "AIRFLOW_HOME": disk},
                stdout=subprocess.DEVNULL,
            )
            self._pods[workload.key] = process, disk

    def sync(self):
        for key, (process, disk) in list(self._pods.items()):
            if process.poll() is not None:
                del self._pods[key]
                shutil.rmtree(disk)
                (self.fail if process.returncode else self.success)(key)

    def end(self):
        for process, disk in self._pods.values():
            process.kill()
            process.wait()
            shutil.rmtree(disk)

    def terminate(self): ...
