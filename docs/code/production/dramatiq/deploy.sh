set -e
for number in 1 2; do
    systemctl restart "app-dramatiq-lifecycle@$number"
done
