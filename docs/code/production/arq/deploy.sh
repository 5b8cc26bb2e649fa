set -e
for number in 1 2; do
    systemctl restart "app-arq-lifecycle@$number"
done
