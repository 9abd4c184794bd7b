{{ config(materialized='table', meta={'owner': 'logistics'}) }}
select id, cast(status as integer) as days_late
from {{ ref('raw_orders') }}
